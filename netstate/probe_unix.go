//go:build unix

package netstate

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bind makes the socket exactly as the server would, as the calling thread's
// user. The calls are made
// directly, not through package net, because net.Listen sets its own options
// and would listen.
func bind(spec BindSpec) error {
	family := unix.AF_INET
	if spec.Family == INET6 {
		family = unix.AF_INET6
	}
	fd, err := newSocket(family, spec.Protocol)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	sa, err := prepare(fd, spec)
	if err != nil {
		return err
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

// prepare sets the options and returns the address.
func prepare(fd int, spec BindSpec) (unix.Sockaddr, error) {
	if spec.ReuseAddr {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt SO_REUSEADDR", err)
		}
	}
	if spec.ReusePort {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt SO_REUSEPORT", err)
		}
	}
	if spec.Family == INET6 {
		v6only := 0
		if spec.V6Only {
			v6only = 1
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only); err != nil {
			return nil, os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if spec.Device != 0 {
		if err := bindToDevice(fd, spec.Device); err != nil {
			return nil, os.NewSyscallError("setsockopt SO_BINDTODEVICE", err)
		}
	}
	var sa unix.Sockaddr
	if spec.Family == INET6 {
		sa = &unix.SockaddrInet6{Port: int(spec.Port), Addr: spec.Addr.As16(), ZoneId: zoneIndex(spec.Addr)}
	} else {
		if !spec.Addr.Is4() {
			return nil, os.NewSyscallError("bind", unix.EAFNOSUPPORT)
		}
		sa = &unix.SockaddrInet4{Port: int(spec.Port), Addr: spec.Addr.As4()}
	}
	return sa, nil
}

func currentUID() uint32 { return uint32(os.Geteuid()) }

func classify(err error) ErrClass {
	switch {
	case err == nil:
		return ClassNone
	case errors.Is(err, unix.EADDRINUSE):
		return ClassInUse
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return ClassDenied
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EAFNOSUPPORT):
		return ClassNoAddress
	}
	return ClassOther
}

// ErrnoName returns "EADDRINUSE" for the system's error of that name, and ""
// if err holds none.
func ErrnoName(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	return unix.ErrnoName(errno)
}
