//go:build !linux

package gatewaylaunch

import "os/exec"

// awaitExit waits until the command has ended and collects its status, which
// stays in cmd: these systems have no way in common to wait without that.
func awaitExit(cmd *exec.Cmd) {
	// The error only repeats that the status is not 0.
	_ = cmd.Wait()
}
