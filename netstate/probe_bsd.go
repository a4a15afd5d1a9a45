//go:build darwin || freebsd

package netstate

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// newSocket holds the fork lock, since these systems' socket call cannot set
// close-on-exec in one step everywhere.
func newSocket(family int, protocol Protocol) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	kind, proto := unix.SOCK_STREAM, unix.IPPROTO_TCP
	if protocol == UDP {
		kind, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	}
	fd, err := unix.Socket(family, kind, proto)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

func bindToDevice(int, uint32) error { return unix.ENOTSUP }

// asBinder is refused for another user: these systems know no user of a single
// thread's sockets.
func asBinder(spec BindSpec, do func() error) error {
	if spec.UID != currentUID() {
		return errUnsupported(fmt.Sprintf("bind as uid %d", spec.UID))
	}
	return do()
}

// UserRuns is false: a bind as another user is not made here anyway.
func UserRuns(uint32) bool { return false }
