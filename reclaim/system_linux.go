package reclaim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/sockdiag"
)

// Open opens a pidfd first and compares the start time second: if the pid was
// given to another process before the pidfd existed, the start time differs;
// if it is given away later, the pidfd stays with the old one.
func (*System) Open(h netstate.Holder) (Process, error) {
	id := h.ID
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, ErrGone
	case err != nil:
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	now, err := netstate.IdentifyProcess(id.PID)
	if err != nil || now != id {
		unix.Close(fd)
		if errors.Is(err, os.ErrNotExist) {
			return nil, ErrGone
		}
		if err != nil {
			return nil, err
		}
		return nil, ErrStale
	}
	file := os.NewFile(uintptr(fd), fmt.Sprintf("pidfd %d", id.PID))
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	// Opened now, it shows the name of this very process for as long as it is
	// open, and takes no look-up when it counts. Without it no name is compared.
	comm, err := unix.Open(fmt.Sprintf("/proc/%d/comm", id.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		comm = -1
	}
	p := &pidfdProcess{holder: h, comm: comm, file: file, raw: raw, done: make(chan struct{}), watched: make(chan struct{})}
	go p.watch()
	return p, nil
}

// pidfdProcess waits in the runtime's poller, so that no thread is held and
// Close ends the watching goroutine.
type pidfdProcess struct {
	holder netstate.Holder
	comm   int // -1 if it cannot be read
	file   interface{ Close() error }
	raw    interface {
		Read(func(fd uintptr) bool) error
		Control(func(fd uintptr)) error
	}
	done    chan struct{}
	watched chan struct{}
}

func (p *pidfdProcess) watch() {
	defer close(p.watched)
	ended := false
	// Read calls the function whenever the descriptor may be readable, which
	// a pidfd becomes when its process ends.
	_ = p.raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		ended = err == nil && n > 0
		return ended
	})
	if ended {
		close(p.done)
	}
}

func (p *pidfdProcess) Done() <-chan struct{} { return p.done }

// Check compares the kernel's name of the process (comm), which each exec sets
// anew to that of the program. The number was that of the process when comm was
// opened, if its pidfd says that it lives after the name was read.
func (p *pidfdProcess) Check() error {
	now, err := p.name()
	select {
	case <-p.done:
		return ErrGone
	default:
	}
	switch {
	case errors.Is(p.Signal(0), ErrGone):
		return ErrGone
	case err == nil && !sameName(p.holder.Name, now):
		return &endError{fmt.Sprintf("%s has become another program, %s", name(p.holder), netstate.PlainName(now)), ErrStale}
	}
	return nil
}

func (p *pidfdProcess) name() (string, error) {
	if p.comm < 0 {
		return "", errors.ErrUnsupported
	}
	var buf [32]byte
	n, err := unix.Pread(p.comm, buf[:], 0)
	return strings.TrimSuffix(string(buf[:max(n, 0)]), "\n"), err
}

// sameName compares a plan's name with comm, which holds 15 bytes; a plan may
// have the rest of a longer one from the command line.
func sameName(planned, comm string) bool {
	const most = 15
	return planned == "" || planned == comm || len(comm) == most && strings.HasPrefix(planned, comm)
}

// Signal sends through the pidfd, which cannot reach another process.
func (p *pidfdProcess) Signal(sig syscall.Signal) error {
	var sent error
	if err := p.raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return ErrGone
	}
	return os.NewSyscallError("pidfd_send_signal", sent)
}

// Close ends the watching goroutine and waits for it.
func (p *pidfdProcess) Close() error {
	err := p.file.Close()
	<-p.watched
	if p.comm >= 0 {
		unix.Close(p.comm)
		p.comm = -1
	}
	return err
}

// Ready falls back to a whole bind where none can be prepared.
func (k *System) Ready(spec netstate.BindSpec) (bind func() netstate.Probe, close func()) {
	b, err := netstate.PrepareBind(spec)
	if err != nil {
		return func() netstate.Probe { return k.TryBind(spec) }, func() {}
	}
	return b.Try, b.Close
}

// Destroy ends each socket by its cookie, so that a new socket at the same
// address is never hit. It stops at the first refusal.
func (*System) Destroy(ctx context.Context, spec netstate.BindSpec, sockets []netstate.Socket) (int, error) {
	var conn *sockdiag.Conn
	// A netlink socket stays in the namespace that it was made in.
	err := spec.NetNS.Do(func() (err error) {
		conn, err = sockdiag.Dial()
		return err
	})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	// In parts, so that a cancel stops the rest.
	const part = 4096
	records := make([]sockdiag.Record, 0, min(len(sockets), part))
	done := 0
	for done < len(sockets) {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		records = records[:0]
		for i := range sockets[done:min(done+part, len(sockets))] {
			records = append(records, sockets[done+i].Record())
		}
		n, err := conn.DestroyAll(records)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Wake listens to the kernel's reports of ended sockets.
func (*System) Wake(ctx context.Context, spec netstate.BindSpec) <-chan struct{} {
	protocol := sockdiag.TCP
	if spec.Protocol == netstate.UDP {
		protocol = sockdiag.UDP
	}
	var events *sockdiag.Events
	err := spec.NetNS.Do(func() (err error) {
		events, err = sockdiag.Subscribe(protocol)
		return err
	})
	if err != nil {
		return nil
	}
	wake := make(chan struct{}, 1)
	context.AfterFunc(ctx, func() { events.Close() })
	go func() {
		for {
			err := events.Next(func(r *sockdiag.Record) {
				// A refused probe of our own has no port when it ends, so it
				// never wakes its own waiter.
				if r != nil && r.LocalPort != spec.Port {
					return
				}
				select {
				case wake <- struct{}{}:
				default: // a wake-up is pending already
				}
			})
			if err != nil {
				return
			}
		}
	}()
	return wake
}

const blunt = false

// killName is what ends a process here.
const killName = "SIGKILL"

func mayDestroy() bool { return netstate.MayDestroy() }

// terminalLeader returns the process that leads this terminal's session, or 0.
func terminalLeader() int {
	sid, err := unix.Getsid(0)
	if err != nil {
		return 0
	}
	return sid
}
