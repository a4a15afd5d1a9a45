//go:build darwin || freebsd

package reclaim

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func deliverable(sig syscall.Signal) os.Signal { return sig }

// terminalLeader returns the process that leads this terminal's session, or 0.
func terminalLeader() int {
	sid, err := unix.Getsid(0)
	if err != nil {
		return 0
	}
	return sid
}
