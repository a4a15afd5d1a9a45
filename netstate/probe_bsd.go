//go:build darwin || freebsd

package netstate

import (
	"fmt"
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

// asUser is refused: these systems know no user of a single thread's sockets.
func asUser(uid uint32, do func() error) error {
	if uid != currentUID() {
		return errUnsupported(fmt.Sprintf("bind as uid %d", uid))
	}
	return do()
}

// UserRuns is false: a bind as another user is not made here anyway.
func UserRuns(uint32) bool { return false }
