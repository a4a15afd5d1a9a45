//go:build amd64 || arm64

package bindnotify

import (
	"bytes"
	"net/netip"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/netstate"
)

// socket is a duplicate of another process's descriptor: the same socket.
type socket struct {
	fd       int
	inode    uint64
	uid      uint32 // who made it
	domain   int
	kind     int
	protocol int
	netns    uint64 // SO_NETNS_COOKIE, 0 before Linux 5.14
}

func newSocket(fd int) (*socket, error) {
	s := &socket{fd: fd}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	s.inode, s.uid = st.Ino, st.Uid
	for _, o := range []struct {
		to   *int
		name int
	}{{&s.domain, unix.SO_DOMAIN}, {&s.kind, unix.SO_TYPE}, {&s.protocol, unix.SO_PROTOCOL}} {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.name)
		if err != nil {
			return nil, os.NewSyscallError("getsockopt", err) // not a socket at all
		}
		*o.to = n
	}
	s.netns = netnsOf(fd)
	return s, nil
}

func netnsOf(fd int) uint64 {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// ownNetNS is the cookie of this process's network namespace.
var ownNetNS = sync.OnceValue(func() uint64 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	return netnsOf(fd)
})

func (s *socket) close() { unix.Close(s.fd) }

// stream reports whether it is a TCP socket, by itself or inside MPTCP.
func (s *socket) stream() bool {
	return (s.domain == unix.AF_INET || s.domain == unix.AF_INET6) && s.kind == unix.SOCK_STREAM &&
		(s.protocol == unix.IPPROTO_TCP || s.protocol == unix.IPPROTO_MPTCP)
}

func (s *socket) family() netstate.Family {
	if s.domain == unix.AF_INET6 {
		return netstate.INET6
	}
	return netstate.INET
}

func (s *socket) is(level, option int) bool {
	n, err := unix.GetsockoptInt(s.fd, level, option)
	return err == nil && n != 0
}

func (s *socket) v6Only() bool {
	return s.domain == unix.AF_INET6 && s.is(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
}

// local is the address that the socket is bound to; its port is 0 if it is
// not bound.
func (s *socket) local() address {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return address{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return address{family: netstate.INET, ip: netip.AddrFrom4(sa.Addr), port: uint16(sa.Port)}
	case *unix.SockaddrInet6:
		return address{family: netstate.INET6, ip: netip.AddrFrom16(sa.Addr), port: uint16(sa.Port), scope: sa.ZoneId}
	}
	return address{}
}

// boundTo reports whether the socket has the address already.
func (s *socket) boundTo(a address) bool {
	l := s.local()
	return l.port != 0 && l.port == a.port && l.ip == a.ip && l.family == a.family && l.scope == a.scope
}

// bind binds it with the very bytes of the program.
func (s *socket) bind(a address) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(s.fd), uintptr(unsafe.Pointer(&a.raw[0])), uintptr(len(a.raw)))
	return errno
}

func (s *socket) listen(backlog int) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_LISTEN, uintptr(s.fd), uintptr(backlog), 0)
	return errno
}

// sockaddr is the address in the form that a call takes.
func (a address) sockaddr() unix.Sockaddr {
	if a.family == netstate.INET {
		return &unix.SockaddrInet4{Port: int(a.port), Addr: a.ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.port), Addr: a.ip.As16(), ZoneId: a.scope}
}

func (k key) addrPort() netip.AddrPort { return netip.AddrPortFrom(k.ip, k.port) }

func (s *socket) nonblocking() (bool, error) {
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	return flags&unix.O_NONBLOCK != 0, os.NewSyscallError("fcntl F_GETFL", err)
}

// key is what two sockets must have in common for the one to stand in for the
// other. What a wildcard of IPv6 takes hangs on an option; a specific address
// of IPv6 takes only itself, whatever the option says.
type key struct {
	family netstate.Family
	ip     netip.Addr
	port   uint16
	scope  uint32
	v6only bool
	netns  uint64
}

func (s *socket) key(a address) key {
	return key{a.family, a.ip, a.port, a.scope, a.ip == netip.IPv6Unspecified() && s.v6Only(), s.netns}
}

// option is one that a server may set before it binds.
type option struct{ level, name, size int }

// carried are the options that the kept socket takes over, since a connection
// inherits them from its listener. SO_REUSEPORT is not among them: taking it
// away would change who may share the port with others.
var carried = []option{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR, 4},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 4},
	{unix.SOL_SOCKET, unix.SO_LINGER, unix.SizeofLinger},
	{unix.SOL_SOCKET, unix.SO_OOBINLINE, 4},
	{unix.SOL_SOCKET, unix.SO_PRIORITY, 4},
	{unix.SOL_SOCKET, unix.SO_MARK, 4},
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT, 4},
	{unix.SOL_SOCKET, unix.SO_RCVTIMEO, int(unsafe.Sizeof(unix.Timeval{}))},
	{unix.SOL_SOCKET, unix.SO_SNDTIMEO, int(unsafe.Sizeof(unix.Timeval{}))},
	{unix.SOL_SOCKET, unix.SO_BUSY_POLL, 4},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 4},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 4},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 4},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 4},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 4},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 4},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT, 4},
	{unix.IPPROTO_TCP, unix.TCP_LINGER2, 4},
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 4},
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 4},
	{unix.IPPROTO_TCP, unix.TCP_CONGESTION, 16}, // TCP_CA_NAME_MAX
	{unix.IPPROTO_IP, unix.IP_TOS, 4},
	{unix.IPPROTO_IP, unix.IP_TTL, 4},
	{unix.IPPROTO_IP, unix.IP_FREEBIND, 4},
	{unix.IPPROTO_IP, unix.IP_TRANSPARENT, 4},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 4},
}

// carry gives the socket the options and the blocking mode of another one.
// What one of the two does not know is left as it is.
func (s *socket) carry(from *socket) {
	for _, o := range carried {
		want, err := from.get(o)
		if err != nil {
			continue
		}
		if have, err := s.get(o); err == nil && !bytes.Equal(have, want) {
			s.set(o, want)
		}
	}
	if from.is(unix.SOL_SOCKET, unix.SO_REUSEPORT) {
		s.set(option{unix.SOL_SOCKET, unix.SO_REUSEPORT, 4}, []byte{1, 1, 1, 1})
	}
	s.carryBuffers(from)
	if nonblocking, err := from.nonblocking(); err == nil {
		_ = unix.SetNonblock(s.fd, nonblocking)
	}
}

// carryBuffers takes over the sizes of buffers that the program has set. A
// buffer that nobody has set grows by itself, and would not after being set to
// the size that it begins with. The kernel doubles what it is told.
func (s *socket) carryBuffers(from *socket) {
	fresh, err := unix.Socket(from.domain, from.kind|unix.SOCK_CLOEXEC, from.protocol)
	if err != nil {
		return
	}
	defer unix.Close(fresh)
	for _, name := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		first, err1 := unix.GetsockoptInt(fresh, unix.SOL_SOCKET, name)
		want, err2 := unix.GetsockoptInt(from.fd, unix.SOL_SOCKET, name)
		have, err3 := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, name)
		if err1 == nil && err2 == nil && err3 == nil && want != first && want != have {
			_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, name, want/2)
		}
	}
}

func (s *socket) get(o option) ([]byte, error) {
	value := make([]byte, o.size)
	size := uint32(o.size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(o.level), uintptr(o.name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	return value[:size], nil
}

// turn switches an option on or off.
func (s *socket) turn(o option, on bool) {
	value := 0
	if on {
		value = 1
	}
	_ = unix.SetsockoptInt(s.fd, o.level, o.name, value) // what must have worked is seen by the call that needs it
}

func (s *socket) set(o option, value []byte) {
	if len(value) == 0 {
		return
	}
	// Some need a right, and some are not known to every kind of socket.
	_, _, _ = unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.fd), uintptr(o.level), uintptr(o.name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(len(value)), 0)
}
