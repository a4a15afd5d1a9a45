package netstate

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/windows"
)

// startWinsock must have run before the first socket. Package net does it for
// its own sockets only, and not before it makes one.
var startWinsock = sync.OnceValue(func() error {
	var data windows.WSAData
	return windows.WSAStartup(0x202, &data) // version 2.2
})

// bind makes the socket as a server would make it here. SO_REUSEADDR is never
// set, whatever the spec says: on Windows it means taking a port that another
// program is using, TIME-WAIT does not refuse a bind without it, and Go and
// libuv therefore leave it off where they set it on Unix.
func bind(spec BindSpec) error {
	if err := startWinsock(); err != nil {
		return os.NewSyscallError("WSAStartup", err)
	}
	if spec.ReusePort {
		return os.NewSyscallError("setsockopt SO_REUSEPORT", windows.WSAENOPROTOOPT)
	}
	if spec.Device != 0 {
		return os.NewSyscallError("setsockopt SO_BINDTODEVICE", windows.WSAENOPROTOOPT)
	}
	family := int32(windows.AF_INET)
	if spec.Family == INET6 {
		family = windows.AF_INET6
	}
	kind, protocol := int32(windows.SOCK_STREAM), int32(windows.IPPROTO_TCP)
	if spec.Protocol == UDP {
		kind, protocol = windows.SOCK_DGRAM, windows.IPPROTO_UDP
	}
	s, err := windows.WSASocket(family, kind, protocol, nil, 0,
		windows.WSA_FLAG_OVERLAPPED|windows.WSA_FLAG_NO_HANDLE_INHERIT)
	if err != nil {
		return os.NewSyscallError("WSASocket", err)
	}
	defer windows.Closesocket(s)
	var sa windows.Sockaddr
	if spec.Family == INET6 {
		v6only := 0
		if spec.V6Only {
			v6only = 1
		}
		if err := windows.SetsockoptInt(s, windows.IPPROTO_IPV6, windows.IPV6_V6ONLY, v6only); err != nil {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
		sa = &windows.SockaddrInet6{Port: int(spec.Port), Addr: spec.Addr.As16(), ZoneId: zoneIndex(spec.Addr)}
	} else {
		if !spec.Addr.Is4() {
			return os.NewSyscallError("bind", windows.WSAEAFNOSUPPORT)
		}
		sa = &windows.SockaddrInet4{Port: int(spec.Port), Addr: spec.Addr.As4()}
	}
	return os.NewSyscallError("bind", windows.Bind(s, sa))
}

// currentUID is what os.Getuid's -1 becomes: users have no numbers on Windows,
// and no rule of bind asks for one there.
func currentUID() uint32 { return ^uint32(0) }

func asBinder(spec BindSpec, do func() error) error {
	if spec.UID != currentUID() {
		return errUnsupported(fmt.Sprintf("bind as uid %d", spec.UID))
	}
	return do()
}

// winsockErrors are the refusals that decide something. The second number is
// the one that package syscall invented for the Unix name; a scripted kernel
// uses it.
var winsockErrors = []struct {
	winsock, unix syscall.Errno
	name          string
	class         ErrClass
}{
	{windows.WSAEADDRINUSE, syscall.EADDRINUSE, "EADDRINUSE", ClassInUse},
	// Besides a missing right, an excluded port range is refused so
	// (netsh int ipv4 show excludedportrange protocol=tcp).
	{windows.WSAEACCES, syscall.EACCES, "EACCES", ClassDenied},
	{windows.WSAEADDRNOTAVAIL, syscall.EADDRNOTAVAIL, "EADDRNOTAVAIL", ClassNoAddress},
	{windows.WSAEINVAL, syscall.EINVAL, "EINVAL", ClassNoAddress},
	{windows.WSAEAFNOSUPPORT, syscall.EAFNOSUPPORT, "EAFNOSUPPORT", ClassNoAddress},
	{windows.WSAENOPROTOOPT, syscall.ENOPROTOOPT, "ENOPROTOOPT", ClassOther},
}

func classify(err error) ErrClass {
	if err == nil {
		return ClassNone
	}
	for _, e := range winsockErrors {
		if errors.Is(err, e.winsock) || errors.Is(err, e.unix) {
			return e.class
		}
	}
	return ClassOther
}

// ErrnoName returns "EADDRINUSE" for the system's error of that name, and ""
// if err holds none that has one.
func ErrnoName(err error) string {
	for _, e := range winsockErrors {
		if errors.Is(err, e.winsock) || errors.Is(err, e.unix) {
			return e.name
		}
	}
	return ""
}

// UserRuns is false: a bind as another user is not made here anyway.
func UserRuns(uint32) bool { return false }
