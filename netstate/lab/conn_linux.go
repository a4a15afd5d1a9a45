package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// The kernel's numbers of the states that a connection passes through
// (include/net/tcp_states.h).
const (
	established = 1
	synSent     = 2
	finWait1    = 4
	finWait2    = 5
	closed      = 7
	closeWait   = 8
	lastAck     = 9
	closing     = 11
)

// Conn is an established connection, both ends of which the lab has open.
type Conn struct {
	Server *Socket // its local port is the listener's
	Client *Socket
}

// Close closes both ends.
func (c *Conn) Close() error { return errors.Join(c.Server.Close(), c.Client.Close()) }

// Route says how a client reaches a listener. The zero value lets the kernel
// choose the client's address and port, and goes to the listener's own
// address, or to the loopback address of its family if that is a wildcard.
type Route struct {
	// From is bound before connecting, without SO_REUSEADDR. A real client's
	// port is chosen by the kernel; one that was bound differs in a single
	// way: destroying the connection leaves its port bound until it is closed.
	From netip.AddrPort
	To   netip.Addr
}

// Dial connects a client to a listener and accepts the connection.
func (s *Socket) Dial(r Route) (*Conn, error) {
	client, err := s.Queue(r)
	if err != nil {
		return nil, err
	}
	server, err := s.accept(client.local)
	if err != nil {
		client.Close()
		return nil, err
	}
	server.peer, client.peer = client, server
	return &Conn{Server: server, Client: client}, nil
}

// Queue connects a client to a listener and leaves the connection in the
// listener's queue: it is established, and no process has it yet.
func (s *Socket) Queue(r Route) (*Socket, error) {
	client, err := s.connect(r)
	if err != nil {
		return nil, err
	}
	err = client.await("the connection", func() (bool, error) {
		if code, err := unix.GetsockoptInt(client.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
			return false, os.NewSyscallError("getsockopt SO_ERROR", err)
		} else if code != 0 {
			return false, os.NewSyscallError("connect", unix.Errno(code))
		}
		state, err := client.state()
		return state == established, err
	})
	if err == nil {
		// The client is established before its last segment has made the
		// server's end; a listener with something to accept can be read.
		err = s.awaitReadable()
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// connect begins a connection and does not wait for it.
func (s *Socket) connect(r Route) (*Socket, error) {
	to := r.To
	if !to.IsValid() {
		to = s.local.Addr()
		switch to {
		case netip.IPv4Unspecified():
			to = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		case netip.IPv6Unspecified():
			to = netip.IPv6Loopback()
		}
	}
	if r.From.Addr().Is6() {
		to = mapped(to)
	}
	client, err := newSocket(to)
	if err != nil {
		return nil, err
	}
	if r.From.IsValid() {
		if err := client.bind(r.From, Options{}); err != nil {
			client.Close()
			return nil, err
		}
	}
	target := netip.AddrPortFrom(to, s.local.Port())
	if err := unix.Connect(client.fd, sockaddr(target)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		client.Close()
		return nil, fmt.Errorf("%s: %w", target, os.NewSyscallError("connect", err))
	}
	if err := client.learnLocal(); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// mapped writes an IPv4 address as AF_INET6 sockets need it.
func mapped(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return netip.AddrFrom16(addr.As16())
	}
	return addr
}

func (s *Socket) awaitReadable() error {
	return s.await("a connection to accept", func() (bool, error) {
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
		return n > 0, os.NewSyscallError("poll", err)
	})
}

func (s *Socket) accept(from netip.AddrPort) (*Socket, error) {
	fd, sa, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("accept4", err)
	}
	server := &Socket{fd: fd}
	if got := addrPort(sa); got != from {
		server.Close()
		return nil, fmt.Errorf("accepted a connection from %s instead of %s: an earlier one was still queued", got, from)
	}
	if err := server.learnLocal(); err != nil {
		server.Close()
		return nil, err
	}
	return server, nil
}

var errNoPeer = errors.New("only an end of a connection that Dial made can change its state")

// CloseWait brings this end into CLOSE-WAIT: the peer closes, this end does
// not. The peer's port keeps an orphan in FIN-WAIT-2.
func (s *Socket) CloseWait() error {
	if s.peer == nil {
		return errNoPeer
	}
	if err := s.peer.Close(); err != nil {
		return err
	}
	return s.awaitState("CLOSE-WAIT", closeWait)
}

// FinWait2 brings this end into FIN-WAIT-2: it has sent its FIN and the peer
// has not. Close makes it an orphan, which the kernel ends by a timer.
func (s *Socket) FinWait2() error {
	if s.peer == nil {
		return errNoPeer
	}
	if err := s.shutdown(); err != nil {
		return err
	}
	return s.awaitState("FIN-WAIT-2", finWait2)
}

// TimeWait brings this end into TIME-WAIT and closes both descriptors. The
// kernel keeps it for 60 s.
func (s *Socket) TimeWait() error {
	if s.peer == nil {
		return errNoPeer
	}
	if err := s.shutdown(); err != nil {
		return err
	}
	// The peer closes after it has seen the FIN, so that its own FIN is the
	// second one, and acknowledges with it. This descriptor is closed only
	// after that: the kernel replaces the connection by a TIME-WAIT record
	// before the descriptor reads as ended.
	if err := s.peer.awaitEOF(); err != nil {
		return err
	}
	if err := s.peer.Close(); err != nil {
		return err
	}
	if err := s.awaitEOF(); err != nil {
		return err
	}
	if err := s.awaitState("TIME-WAIT", closed); err != nil {
		return err
	}
	return s.Close()
}

// FinWait1 brings this end into FIN-WAIT-1: its FIN waits behind data that the
// peer does not read. It has no fixed end.
func (s *Socket) FinWait1() error {
	if err := s.stuff(); err != nil {
		return err
	}
	if err := s.shutdown(); err != nil {
		return err
	}
	return s.awaitState("FIN-WAIT-1", finWait1)
}

// Closing brings this end into CLOSING: both have sent a FIN, and this end's
// waits behind data that the peer does not read.
func (s *Socket) Closing() error {
	if err := s.FinWait1(); err != nil {
		return err
	}
	if err := s.peer.shutdown(); err != nil {
		return err
	}
	return s.awaitState("CLOSING", closing)
}

// LastAck brings this end into LAST-ACK: the peer has sent its FIN first, and
// this end's waits behind data that the peer does not read.
func (s *Socket) LastAck() error {
	if err := s.stuff(); err != nil {
		return err
	}
	if err := s.peer.shutdown(); err != nil {
		return err
	}
	if err := s.awaitState("CLOSE-WAIT", closeWait); err != nil {
		return err
	}
	if err := s.shutdown(); err != nil {
		return err
	}
	return s.awaitState("LAST-ACK", lastAck)
}

// shutdown sends this end's FIN and keeps the descriptor.
func (s *Socket) shutdown() error {
	return os.NewSyscallError("shutdown", unix.Shutdown(s.fd, unix.SHUT_WR))
}

// stuff writes until the peer, which does not read, can take no more, so that
// a FIN written afterwards cannot be delivered. The sender's buffer is made
// larger than the window that the peer has promised (64 KiB at most, before it
// has read anything), so that a full buffer always leaves data behind.
func (s *Socket) stuff() error {
	const buffer = 192 << 10 // below the default limit, net.core.wmem_max
	if s.peer == nil {
		return errNoPeer
	}
	if err := unix.SetsockoptInt(s.peer.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		return os.NewSyscallError("setsockopt SO_RCVBUF", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, buffer); err != nil {
		return os.NewSyscallError("setsockopt SO_SNDBUF", err)
	}
	chunk := make([]byte, 16<<10)
	for {
		_, err := unix.Write(s.fd, chunk)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("write", err)
		}
	}
}
