//go:build unix

package gatewaylaunch

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// clearReuseAddr runs after Go has set SO_REUSEADDR and before it binds.
func clearReuseAddr(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt SO_REUSEADDR", set)
}
