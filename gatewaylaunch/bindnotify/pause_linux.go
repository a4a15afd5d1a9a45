//go:build amd64 || arm64

package bindnotify

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate"
)

const (
	// youngMost is how long a connection counts as one whose request is still
	// to come. Browsers open some in advance and leave them idle.
	youngMost = 500 * time.Millisecond
	// stoppedMost bounds the wait until all threads have stopped, and that
	// until somebody else has accepted what is queued.
	stoppedMost = 20 * time.Millisecond
)

// Pause stops the processes (SIGSTOP) at a moment in which none of them owes
// an answer on a connection of the sockets' ports, so that the signal that
// follows cuts no request off: a server that does nothing about SIGTERM ends in
// the middle of one. With drained it waits as well until somebody else who has
// the sockets has accepted what is queued in them, now and once more before the
// processes run on, so that they find nothing to accept then. It gives up after
// a second, or five with drained. The result lets them run on; it must be
// called, and may be more than once.
//
// If this process ends first, a helper lets them run on.
func (s *Sockets) Pause(ctx context.Context, holders []netstate.Holder, drained bool) (resume func()) {
	p := &pause{sockets: s}
	defer func() {
		if resume == nil {
			p.close()
			resume = func() {}
		}
	}()
	if err := p.open(holders); err != nil {
		return nil // then it is done without
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	most := quietMost
	if drained {
		most = quietMostBeside
	}
	for deadline := time.Now().Add(most); time.Now().Before(deadline); {
		// A look first, since a shell notices when its job is stopped.
		if !p.busy() {
			p.signal(unix.SIGSTOP)
			if p.awaitStopped() && !p.busy() && (!drained || s.awaitDrained()) {
				return func() {
					if drained && len(p.pidfds) > 0 {
						s.awaitDrained()
					}
					p.signal(unix.SIGCONT)
					p.close()
				}
			}
			p.signal(unix.SIGCONT)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// awaitDrained waits until nothing is queued in the sockets, and reports
// whether that came to pass.
func (s *Sockets) awaitDrained() bool {
	queued := func(k *keptSocket) bool {
		// Of a listener this is the length of its queue (tcp_get_info).
		info, err := unix.GetsockoptTCPInfo(k.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && k.used && info.Unacked > 0
	}
	for deadline := time.Now().Add(stoppedMost); s.any(queued); {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

type pause struct {
	sockets *Sockets
	pids    []int
	pidfds  []int
	helper  *channel
}

// hold takes hold of the processes.
func (p *pause) hold(holders []netstate.Holder) error {
	for _, h := range holders {
		fd, err := unix.PidfdOpen(h.ID.PID, 0)
		if err != nil {
			return os.NewSyscallError("pidfd_open", err)
		}
		p.pids, p.pidfds = append(p.pids, h.ID.PID), append(p.pidfds, fd)
		if now, err := netstate.IdentifyProcess(h.ID.PID); err != nil || now != h.ID {
			return os.ErrProcessDone
		}
	}
	return nil
}

// open takes hold of the processes, and gives the same hold to the helper.
func (p *pause) open(holders []netstate.Holder) error {
	if err := p.hold(holders); err != nil {
		return err
	}
	c, end, err := newChannel()
	if err != nil {
		return err
	}
	defer end.Close()
	p.helper = c
	if err := startHelper(resumeName, end); err != nil {
		return err
	}
	for _, fd := range p.pidfds {
		if err := c.send([]byte{sayAsk}, fd); err != nil {
			return err
		}
	}
	if err := c.send([]byte{sayGo}, -1); err != nil {
		return err
	}
	var buf [8]byte
	_, _, err = c.receive(buf[:], handshakeMost)
	return err
}

// resumeHelper is the main function of the helper: it collects the processes,
// says so, and lets them run on when the other end is closed.
func resumeHelper() int {
	c := &channel{channelFD}
	unix.CloseOnExec(channelFD)
	var pidfds []int
	var buf [8]byte
	for {
		n, fd, err := c.receive(buf[:], -1)
		switch {
		case err == io.EOF:
			for _, fd := range pidfds {
				_ = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0) // it may have ended
			}
			return 0
		case err != nil || n != 1:
			return statusFailed
		case fd >= 0:
			pidfds = append(pidfds, fd)
		case buf[0] == sayGo:
			if err := c.send([]byte{sayGo}, -1); err != nil {
				return statusFailed
			}
		}
	}
}

func (p *pause) close() {
	for _, fd := range p.pidfds {
		unix.Close(fd)
	}
	p.pidfds, p.pids = nil, nil
	if p.helper != nil {
		p.helper.close()
		p.helper = nil
	}
}

func (p *pause) signal(sig unix.Signal) {
	for _, fd := range p.pidfds {
		_ = unix.PidfdSendSignal(fd, sig, nil, 0) // it may have ended
	}
}

// awaitStopped waits until no thread runs any more, and reports whether that
// came to pass; the signal is only the order to stop.
func (p *pause) awaitStopped() bool {
	for deadline := time.Now().Add(stoppedMost); time.Now().Before(deadline); {
		running := false
		for _, pid := range p.pids {
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
			for _, task := range tasks {
				running = running || runs(task)
			}
		}
		if !running {
			return true
		}
	}
	return false
}

func runs(stat string) bool {
	data, err := os.ReadFile(stat)
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(data[max(strings.LastIndexByte(string(data), ')'), 0):]), " ")
	return ok && rest != "" && !strings.ContainsRune("TtZXD", rune(rest[0]))
}

// busy reports whether one of the processes owes an answer.
func (p *pause) busy() bool {
	for i, pid := range p.pids {
		links, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			continue
		}
		for _, l := range links {
			fd, err := strconv.Atoi(l.Name())
			if err != nil {
				continue
			}
			if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err != nil || !strings.HasPrefix(to, "socket:") {
				continue
			}
			dup, err := unix.PidfdGetfd(p.pidfds[i], fd, 0)
			if err != nil {
				continue
			}
			owes := p.owes(dup)
			unix.Close(dup)
			if owes {
				return true
			}
		}
	}
	return false
}

// owes reports whether somebody waits for an answer on the connection: there
// is something to read, or what came last came from the client.
func (p *pause) owes(fd int) bool {
	s, err := newSocket(fd)
	if err != nil || !s.stream() {
		return false
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	const established = 1 // include/net/tcp_states.h
	if err != nil || info.State != established || !p.sockets.serves(s.local().port) {
		return false
	}
	if unread, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil && unread > 0 {
		return true
	}
	switch {
	case info.Bytes_received == 0:
		return time.Duration(info.Last_data_recv)*time.Millisecond < youngMost
	case info.Bytes_sent == 0:
		return true
	}
	return info.Last_data_recv < info.Last_data_sent
}

// startHelper starts this program for one of the package's purposes, with
// nothing of this process but one end of a channel: no terminal, and no pipe
// that somebody waits for the end of.
func startHelper(name string, end *os.File) error {
	cmd := exec.Command(self())
	cmd.Args = []string{name}
	cmd.Dir = "/"
	cmd.Env = []string{"GOMAXPROCS=1", "GORACE=atexit_sleep_ms=0"}
	cmd.ExtraFiles = []*os.File{end} // becomes channelFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // its status says nothing
	return nil
}
