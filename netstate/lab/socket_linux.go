package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Options are the options that decide a bind, set before it. A connection
// inherits those of its listener.
type Options struct {
	ReuseAddr, ReusePort, V6Only bool
}

// Socket is one socket that the lab has open, through a descriptor of its own
// and without the runtime's poller, so that nothing happens to it but what a
// test does. It is not safe for concurrent use.
type Socket struct {
	fd    int // -1 when closed
	local netip.AddrPort
	peer  *Socket // the other end of a connection that Dial made
}

// Bound binds a socket to addr and does no more: it neither listens nor
// connects. An IPv4-mapped address makes an AF_INET6 socket; port 0 lets the
// kernel choose.
func Bound(addr netip.AddrPort, opts Options) (*Socket, error) {
	s, err := newSocket(addr.Addr())
	if err != nil {
		return nil, err
	}
	if err := s.bind(addr, opts); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Listen binds and listens. The address "::" without V6Only serves IPv4 too.
func Listen(addr netip.AddrPort, opts Options) (*Socket, error) {
	const backlog = 1024
	s, err := Bound(addr, opts)
	if err != nil {
		return nil, err
	}
	if err := unix.Listen(s.fd, backlog); err != nil {
		s.Close()
		return nil, os.NewSyscallError("listen", err)
	}
	return s, nil
}

// ListenGroup returns n listeners that share addr by SO_REUSEPORT, as the
// workers of one server do.
func ListenGroup(addr netip.AddrPort, n int) ([]*Socket, error) {
	group := make([]*Socket, 0, n)
	for range n {
		s, err := Listen(addr, Options{ReusePort: true})
		if err != nil {
			for _, s := range group {
				s.Close()
			}
			return nil, err
		}
		addr = s.local // so that port 0 means one port for all
		group = append(group, s)
	}
	return group, nil
}

// Addr returns the local address, with the port that the kernel chose if it
// was asked to.
func (s *Socket) Addr() netip.AddrPort { return s.local }

// FD returns the descriptor, or -1 after Close. Options may be set on it.
func (s *Socket) FD() int { return s.fd }

// Close closes the descriptor. What the kernel keeps afterwards, such as an
// orphan or a TIME-WAIT socket, ends by itself. A second Close does nothing.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return os.NewSyscallError("close", err)
}

// state returns the kernel's number of the socket's state (TCP_INFO).
func (s *Socket) state() (uint8, error) {
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt TCP_INFO", err)
	}
	return info.State, nil
}

func newSocket(addr netip.Addr) (*Socket, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &Socket{fd: fd}, nil
}

func (s *Socket) bind(addr netip.AddrPort, opts Options) error {
	type option struct {
		name        string
		level, code int
		on          bool
	}
	options := []option{
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, opts.ReuseAddr},
		{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, opts.ReusePort},
	}
	if addr.Addr().Is6() {
		options = append(options, option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, opts.V6Only})
	}
	for _, o := range options {
		value := 0
		if o.on {
			value = 1
		}
		if err := unix.SetsockoptInt(s.fd, o.level, o.code, value); err != nil {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	if err := unix.Bind(s.fd, sockaddr(addr)); err != nil {
		return fmt.Errorf("%s: %w", addr, os.NewSyscallError("bind", err))
	}
	return s.learnLocal()
}

func (s *Socket) learnLocal() error {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	s.local = addrPort(sa)
	return nil
}

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16(), ZoneId: zone(addr.Addr().Zone())}
}

func zone(name string) uint32 {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n)
	}
	if ifi, err := net.InterfaceByName(name); err == nil {
		return uint32(ifi.Index)
	}
	return 0
}

// addrPort unmaps IPv4-mapped addresses, as every other part of berth does.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// patience bounds the wait for something that loopback does in microseconds.
const patience = 5 * time.Second

// await calls done until it reports true, at first at once and then each time
// the kernel has reported a change of the socket. An edge-triggered epoll
// reports each change of state, even one that changes nothing about whether
// the socket can be read or written.
func (s *Socket) await(what string, done func() (bool, error)) error {
	if ok, err := done(); ok || err != nil {
		return err
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer unix.Close(ep)
	watch := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, s.fd, &watch); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	deadline := time.Now().Add(patience)
	for {
		// Asked before each wait, so that a change between the last answer
		// and the wait is not missed.
		if ok, err := done(); ok || err != nil {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("%s did not happen to %s within %v", what, s.local, patience)
		}
		var events [1]unix.EpollEvent
		_, err := unix.EpollWait(ep, events[:], int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
	}
}

// awaitState waits until the socket's own state is want.
func (s *Socket) awaitState(name string, want uint8) error {
	return s.await(name, func() (bool, error) {
		got, err := s.state()
		return got == want, err
	})
}

// awaitEOF waits until the peer's FIN has arrived. The connection must not
// carry data.
func (s *Socket) awaitEOF() error {
	return s.await("the peer's FIN", func() (bool, error) {
		var buf [1]byte
		n, err := unix.Read(s.fd, buf[:])
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return false, nil
		case err != nil:
			return false, os.NewSyscallError("read", err)
		case n > 0:
			return false, errors.New("read data where the end of the stream was expected")
		}
		return true, nil
	})
}

// FreePort returns a port that any address and any options could bind now, the
// first from 18789 on. Tests that leave TIME-WAIT behind use it to be able to
// run again in the same namespace. The ports lie below those that the kernel
// gives to clients (32768 on, unless configured), so no client takes one.
func FreePort() (uint16, error) {
	const first, last = 18789, 32767
	for port := uint16(first); port <= last; port++ {
		// The dual-stack wildcard without options meets every other socket.
		s, err := Bound(netip.AddrPortFrom(netip.IPv6Unspecified(), port), Options{})
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) { // no IPv6
			s, err = Bound(netip.AddrPortFrom(netip.IPv4Unspecified(), port), Options{})
		}
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return port, s.Close()
	}
	return 0, fmt.Errorf("no port from %d to %d is free", first, last)
}
