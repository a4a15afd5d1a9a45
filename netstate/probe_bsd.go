//go:build darwin || freebsd

package netstate

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// newSocket holds the fork lock, since these systems' socket call cannot set
// close-on-exec in one step everywhere.
func newSocket(family int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(family, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

func bindToDevice(int, uint32) error { return unix.ENOTSUP }
