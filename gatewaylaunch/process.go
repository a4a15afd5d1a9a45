package gatewaylaunch

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"

	"berth/netstate"
)

const (
	// goneEvery is how often to look whether the last descendant has ended,
	// since nothing reports that for a process that is not one's own child. A
	// look reads all processes; it may take a fifth of the time at most.
	goneEvery = 5 * time.Millisecond
	goneShare = 4
	// killMost bounds the wait for descendants after SIGKILL. One that is
	// still there then is stuck in the kernel.
	killMost = 2 * time.Second
)

// stdio is what a gateway in the foreground inherits.
type stdio struct{ in, out, err *os.File }

// process is one started gateway with its descendants.
type process struct {
	cmd   *exec.Cmd // nil if another berth started it
	pid   int
	group *group
	out   *outputs
	tie   *os.File // the other end of its standard input, if it is tied
	heard bool     // both output streams are read here
	// foreign is set once somebody else's listener was seen on the port.
	foreign atomic.Bool
	// exited is closed when the process itself has ended. On Linux it is not
	// reaped before reap is called, so that its pid, which names its group and
	// session too, cannot be given to another process meanwhile.
	exited chan struct{}
}

// start starts the command. The error is a *StartError.
func (l *Launcher) start() (*process, error) {
	_, program := splitAssignments(l.Command.Argv)
	if len(program) == 0 {
		return nil, newStartError(l.Command, errNoProgram)
	}
	p := &process{
		cmd:    exec.Command(program[0], program[1:]...),
		out:    newOutputs(),
		exited: make(chan struct{}),
	}
	p.cmd.Dir, p.cmd.Env = l.Command.Dir, l.Command.environ()
	err := l.connect(p)
	if err == nil {
		if err = l.Command.User.apply(p.cmd); err == nil {
			ownGroup(p.cmd, !l.Foreground)
			err = l.begin(p)
		}
	}
	p.out.started()
	if f, ok := p.cmd.Stdin.(*os.File); ok && p.tie != nil {
		f.Close()
	}
	if err != nil {
		p.close()
		p.out.drain()
		for range p.out.lines {
			// Nothing was started, so nothing is written: the readers end.
		}
		return nil, newStartError(l.Command, err)
	}
	p.pid = p.cmd.Process.Pid
	p.group = newGroup(p.cmd.Process, !l.Foreground)
	return p, nil
}

// Starter starts a command in place of its Start, as bindnotify does.
type Starter interface {
	Start(cmd *exec.Cmd) error
}

// bindWatcher is a Starter that has seen the gateway's own binds.
type bindWatcher interface {
	Watched() *BindResult
}

// begin starts the command and waits for its end in a goroutine. In the
// foreground it ends when this process does, however that happens. The kernel
// takes the end of the thread that started the command for that, so this thread
// stays the goroutine's own until the command has ended.
func (l *Launcher) begin(p *process) error {
	start := (*exec.Cmd).Start
	if l.Starter != nil {
		start = l.Starter.Start
	}
	started := make(chan error)
	go func() {
		if l.Foreground {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			dieWithParent(p.cmd)
		}
		err := start(p.cmd)
		started <- err
		if err == nil {
			defer close(p.exited)
			awaitExit(p.cmd)
		}
	}()
	return <-started
}

// connect gives the gateway its three files.
func (l *Launcher) connect(p *process) error {
	if l.Foreground {
		return l.inherit(p)
	}
	if l.Tie {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		p.cmd.Stdin, p.tie = r, w
	}
	p.heard = true
	if l.Log != nil {
		p.cmd.Stdout, p.cmd.Stderr = l.Log, l.Log
		return p.out.follow(l.Log, 0)
	}
	stdout, err := p.out.pipe(Stdout, nil)
	if err != nil {
		return err
	}
	stderr, err := p.out.pipe(Stderr, nil)
	if err != nil {
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	return nil
}

// inherit gives the gateway this process's own files. An output that is not a
// terminal goes through a pipe, so that the gateway can be heard; a terminal
// stays what it is, since programs behave differently on one.
func (l *Launcher) inherit(p *process) error {
	io := stdio{os.Stdin, os.Stdout, os.Stderr}
	if l.stdio != nil {
		io = *l.stdio
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = io.in, io.out, io.err
	outTerminal, errTerminal := isTerminal(io.out), isTerminal(io.err)
	p.heard = !outTerminal && !errTerminal
	if !outTerminal {
		w, err := p.out.pipe(Stdout, io.out)
		if err != nil {
			return err
		}
		p.cmd.Stdout = w
		if !errTerminal && sameFile(io.out, io.err) {
			// One pipe for both keeps the order of what is written to them.
			p.cmd.Stderr = w
			return nil
		}
	}
	if !errTerminal {
		w, err := p.out.pipe(Stderr, io.err)
		if err != nil {
			return err
		}
		p.cmd.Stderr = w
	}
	return nil
}

func isTerminal(f *os.File) bool {
	return isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd())
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

// includes reports whether a holder belongs to the gateway: it is the process
// itself, has it among its ancestors, or is in its session.
func (p *process) includes(h netstate.Holder) bool {
	pid := p.pid
	return h.ID.PID == pid ||
		slices.ContainsFunc(h.Parents, func(a netstate.Parent) bool { return a.PID == pid }) ||
		p.group.own && inSession(h.ID.PID, pid)
}

// stop ends the gateway and its descendants: SIGTERM, the grace, SIGKILL. The
// channel is closed when all are gone. ask is false if SIGTERM was sent
// before; some servers take a second one as "now".
func (p *process) stop(grace time.Duration, ask bool) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if p.tie != nil {
			p.tie.Close()
		}
		if ask {
			p.group.terminate()
		}
		if p.waitGone(grace, func() {}) {
			return
		}
		p.group.kill()
		<-p.exited
		// A process that forked while the others were killed may have left
		// one behind, so the signal is repeated until none is left.
		p.waitGone(killMost, p.group.kill)
	}()
	return gone
}

// waitGone waits until the process and its descendants have ended, and
// reports whether they did within most.
func (p *process) waitGone(most time.Duration, again func()) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		return false
	}
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-timer.C:
			return false
		}
		began := time.Now()
		if !p.group.alive() {
			return true
		}
		again()
		look.Reset(max(goneEvery, goneShare*time.Since(began)))
	}
}

// reap collects the status of the process, which must have ended. Its pid
// means nothing any more afterwards.
func (p *process) reap() ExitStatus {
	p.group.release()
	if p.cmd == nil {
		return unknownStatus // only a parent is told
	}
	// The error only repeats that the status is not 0.
	_ = p.cmd.Wait()
	return exitStatus(p.cmd.ProcessState)
}

func (p *process) close() {
	if p.tie != nil {
		p.tie.Close()
	}
}
