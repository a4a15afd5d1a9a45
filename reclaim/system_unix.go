//go:build darwin || freebsd

package reclaim

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const blunt = false

// killName is what ends a process here.
const killName = "SIGKILL"

func deliverable(sig syscall.Signal) os.Signal { return sig }

// terminalLeader returns the process that leads this terminal's session, or 0.
func terminalLeader() int {
	sid, err := unix.Getsid(0)
	if err != nil {
		return 0
	}
	return sid
}
