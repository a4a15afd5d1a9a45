package gatewaylaunch

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/netstate"
)

// awaitExit waits until the command has ended and leaves it a zombie, so that
// its pid stays its own.
func awaitExit(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

const freezeRounds = 10

// group is the gateway's process with everything that it started: its session,
// whatever descends from it, and the sessions that its descendants opened. A
// gateway in the foreground shares the session of this process, so only the
// process itself is signalled there, as a shell would.
type group struct {
	leader *os.Process
	own    bool
	reaped bool // the leader's pid may name another process
	// adopted is set if another process started the leader: it is no child of
	// this one, so that its pid may name another process at any time.
	adopted bool
	// known holds the start times of the members seen so far, the leader's
	// too. When a parent ends, nothing else tells whose child its child was.
	known map[int]uint64
}

func newGroup(leader *os.Process, own bool) *group {
	g := &group{leader: leader, own: own, known: map[int]uint64{}}
	if d, err := readProcess(leader.Pid); err == nil {
		g.known[leader.Pid] = d.start
	}
	return g
}

// adoptGroup is the group of a process that leads its session and that
// somebody else started.
func adoptGroup(id netstate.ProcessID) (*group, error) {
	leader, err := os.FindProcess(id.PID)
	if err != nil {
		return nil, err
	}
	return &group{leader: leader, own: true, adopted: true, known: map[int]uint64{id.PID: id.Start}}, nil
}

// dieWithParent lets the kernel ask the command to end when the thread that
// starts it has ended. A program with more rights than its user is not asked.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
}

// killTree ends a gateway in the foreground with everything that descends from
// it. They are stopped first, so that none forks meanwhile; what is orphaned
// already belongs to nobody any more.
func (g *group) killTree() {
	if g.own {
		g.kill()
		return
	}
	_ = g.leader.Signal(unix.SIGSTOP) // it has ended, or may not be signalled
	for round, seen := 0, -1; round < freezeRounds && seen != len(g.known); round++ {
		seen = len(g.known)
		for _, d := range g.living() {
			signalProcess(d, unix.SIGSTOP)
		}
	}
	for _, d := range g.living() {
		signalProcess(d, unix.SIGKILL)
	}
	_ = g.leader.Kill()
}

// terminate freezes the members before it ends them, until no new one shows
// up: one that forks and ends while the others are signalled would leave a
// child that nothing connects to the gateway any more.
func (g *group) terminate() { g.end(unix.SIGTERM) }
func (g *group) kill()      { g.end(unix.SIGKILL) }

func (g *group) end(sig unix.Signal) {
	if !g.own {
		_ = g.leader.Signal(sig) // it has ended, or may not be signalled
		return
	}
	// Each round finds what the last one's members forked before they were
	// frozen. The bound is for members that may not be signalled.
	for round, seen := 0, -1; round < freezeRounds && seen != len(g.known); round++ {
		seen = len(g.known)
		g.signal(unix.SIGSTOP)
	}
	g.signal(sig)
	g.signal(unix.SIGCONT)
}

// signal ignores failures: they mean that a process has ended or may not be
// signalled, and alive tells what is left.
func (g *group) signal(sig unix.Signal) {
	if !g.reaped && !g.adopted {
		_ = unix.Kill(-g.leader.Pid, sig) // the whole process group at one stroke
	}
	for _, d := range g.living() {
		if g.reaped || g.adopted || d.group != g.leader.Pid {
			signalProcess(d, sig)
		}
	}
}

// alive reports whether a descendant lives.
func (g *group) alive() bool { return g.own && len(g.living()) > 0 }

// release takes a last look while the leader's pid is certain.
func (g *group) release() {
	g.alive()
	g.reaped = true
}

// descendant is one line of /proc/PID/stat.
type descendant struct {
	pid, parent, group, session int
	start                       uint64
	zombie                      bool
}

// living returns the living descendants, with the leader only if it was
// adopted.
func (g *group) living() []descendant {
	all := readProcesses()
	start := make(map[int]uint64, len(all))
	for _, d := range all {
		start[d.pid] = d.start
	}
	// A session has the pid of the member that opened it. That number is not
	// given away while the session lasts, so if it names a process at all,
	// that must be the member.
	session := func(id int) bool {
		opened, known := g.known[id]
		now, runs := start[id]
		return known && (!runs || now == opened)
	}
	member := map[int]bool{}
	for grown := true; grown; {
		grown = false
		for _, d := range all {
			if member[d.pid] {
				continue
			}
			if was, known := g.known[d.pid]; known && was == d.start || session(d.session) || member[d.parent] {
				member[d.pid], grown = true, true
				g.known[d.pid] = d.start
			}
		}
	}
	var living []descendant
	for _, d := range all {
		if member[d.pid] && !d.zombie && (g.adopted || d.pid != g.leader.Pid) {
			living = append(living, d)
		}
	}
	return living
}

func readProcesses() []descendant {
	// The pattern is constant, so Glob cannot fail; without /proc it finds
	// nothing, and the process group is all that can be signalled.
	paths, _ := filepath.Glob("/proc/[0-9]*")
	all := make([]descendant, 0, len(paths))
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if d, err := readProcess(pid); err == nil {
			all = append(all, d)
		}
	}
	return all
}

func readProcess(pid int) (descendant, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return descendant{}, err
	}
	return parseStat(data)
}

// errStat says that a line of /proc/PID/stat is not what proc_pid_stat(5) says.
var errStat = errors.New("malformed /proc/PID/stat")

// parseStat reads /proc/PID/stat. The name in parentheses may contain
// anything, also spaces and parentheses.
func parseStat(data []byte) (descendant, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return descendant{}, errStat
	}
	fields := bytes.Fields(data[end+1:])
	const state, parent, group, session, start = 0, 1, 2, 3, 19 // the name is field 2
	if len(fields) <= start {
		return descendant{}, errStat
	}
	var d descendant
	d.zombie = fields[state][0] == 'Z' || fields[state][0] == 'X'
	for _, f := range []struct {
		to   *int
		text []byte
	}{{&d.pid, bytes.TrimSpace(data[:open])}, {&d.parent, fields[parent]}, {&d.group, fields[group]}, {&d.session, fields[session]}} {
		n, err := strconv.Atoi(string(f.text))
		if err != nil {
			return descendant{}, errStat
		}
		*f.to = n
	}
	ticks, err := strconv.ParseUint(string(fields[start]), 10, 64)
	if err != nil {
		return descendant{}, errStat
	}
	d.start = ticks
	return d, nil
}

// signalProcess opens the process before it compares the start time, so that
// a pid that was given to another process meanwhile is never signalled. The
// handle is a pidfd on Linux 5.4 and later.
func signalProcess(d descendant, sig unix.Signal) {
	handle, err := os.FindProcess(d.pid)
	if err != nil {
		return
	}
	defer func() { _ = handle.Release() }()
	if now, err := readProcess(d.pid); err == nil && now.start == d.start {
		_ = handle.Signal(sig) // it has ended, or may not be signalled
	}
}
