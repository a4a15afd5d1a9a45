//go:build unix && !linux

package gatewaylaunch

import (
	"os/exec"
	"strconv"
	"strings"
)

// running reports whether a process runs: a zombie does not.
func running(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
}
