package reclaim

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"berth/netstate"
)

// Take duplicates the descriptor with pidfd_getfd(2) (Linux 5.6) and compares
// what it got: the process may have closed the number and opened another
// socket since the plan was made.
func (p *pidfdProcess) Take(h netstate.Holder, s netstate.Socket) (Listener, error) {
	if h.FD < 0 || s.Inode == 0 {
		return nil, fmt.Errorf("the descriptor of %s is not known", s.Local)
	}
	fd, got := -1, error(nil)
	if err := p.raw.Control(func(pidfd uintptr) { fd, got = unix.PidfdGetfd(int(pidfd), h.FD, 0) }); err != nil {
		return nil, err
	}
	if got != nil {
		return nil, os.NewSyscallError("pidfd_getfd", got)
	}
	l := &listener{fd: fd, backlog: int(s.SendQ)}
	if err := l.check(s); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// listener is a duplicate of another process's descriptor.
type listener struct {
	fd      int
	backlog int
	// local and reuseAddr are the address and the option as they were.
	local     unix.Sockaddr
	reuseAddr int
}

func (l *listener) check(s netstate.Socket) error {
	var st unix.Stat_t
	if err := unix.Fstat(l.fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	listens, err := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if st.Ino != s.Inode || err != nil || listens == 0 {
		return fmt.Errorf("the descriptor is no longer the listener of %s", s.Local)
	}
	if l.local, err = unix.Getsockname(l.fd); err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	l.reuseAddr, err = unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	return os.NewSyscallError("getsockopt SO_REUSEADDR", err)
}

// Shutdown sets the option first: without it the socket, which stays bound
// until its last descriptor is closed, would block as before.
func (l *listener) Shutdown() error {
	if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(l.fd, unix.SHUT_RDWR))
}

// Listen binds again first: a port that the system has chosen is given back by
// the shutdown, while one that was bound by number is kept (EINVAL).
func (l *listener) Listen() error {
	if err := unix.Bind(l.fd, l.local); err != nil && !errors.Is(err, unix.EINVAL) {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(l.fd, l.backlog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return os.NewSyscallError("setsockopt SO_REUSEADDR", unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, l.reuseAddr))
}

func (l *listener) Close() error { return os.NewSyscallError("close", unix.Close(l.fd)) }
