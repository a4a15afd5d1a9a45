//go:build darwin || freebsd

package reclaim

import (
	"golang.org/x/sys/unix"
)

const terminate = unix.SIGTERM

// terminalLeader returns the process that leads this terminal's session, or 0.
func terminalLeader() int {
	sid, err := unix.Getsid(0)
	if err != nil {
		return 0
	}
	return sid
}
