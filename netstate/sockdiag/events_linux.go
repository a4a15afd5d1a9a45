package sockdiag

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Events receives the end of every socket of one protocol in the network
// namespace, which the kernel multicasts to anyone who listens. A TIME-WAIT socket ends
// without an event, and a socket that enters TIME-WAIT is reported though the
// port stays taken: an event is a reason to look, never an answer.
type Events struct {
	file *os.File
	buf  []byte
	rec  Record
}

// The multicast groups of include/uapi/linux/sock_diag.h.
const (
	groupInetTCPDestroy  = 1 // SKNLGRP_INET_TCP_DESTROY
	groupInetUDPDestroy  = 2 // SKNLGRP_INET_UDP_DESTROY
	groupInet6TCPDestroy = 3 // SKNLGRP_INET6_TCP_DESTROY
	groupInet6UDPDestroy = 4 // SKNLGRP_INET6_UDP_DESTROY
)

// Subscribe joins the groups of a protocol in the network namespace of the
// calling thread. It needs no privilege.
func Subscribe(protocol Protocol) (*Events, error) {
	groups := uint32(1<<(groupInetTCPDestroy-1) | 1<<(groupInet6TCPDestroy-1))
	if protocol == UDP {
		groups = 1<<(groupInetUDPDestroy-1) | 1<<(groupInet6UDPDestroy-1)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket NETLINK_SOCK_DIAG", err)
	}
	addr := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}
	if err := unix.Bind(fd, addr); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind NETLINK_SOCK_DIAG groups", err)
	}
	// An os.File on a non-blocking descriptor waits in the runtime's poller,
	// so that Close wakes the reader and no thread is held while idle.
	return &Events{file: os.NewFile(uintptr(fd), "sock_diag events"), buf: make([]byte, bufferSize)}, nil
}

// Close ends a waiting Next with os.ErrClosed.
func (e *Events) Close() error { return e.file.Close() }

// Next waits for events and calls visit for each ended socket of one
// datagram. If the kernel dropped events because nobody read them in time, it
// calls visit with nil once: something ended, nobody knows what.
func (e *Events) Next(visit func(*Record)) error {
	n, err := e.file.Read(e.buf)
	if errors.Is(err, unix.ENOBUFS) {
		visit(nil)
		return nil
	}
	if err != nil {
		return err
	}
	for b := e.buf[:n]; len(b) > 0; {
		m, rest, err := next(b)
		if err != nil {
			return err
		}
		b = rest
		if !m.isSocket() {
			continue
		}
		if err := e.rec.parse(m.body); err != nil {
			return err
		}
		visit(&e.rec)
	}
	return nil
}
