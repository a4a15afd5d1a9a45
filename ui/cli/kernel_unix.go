//go:build unix

package cli

import (
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelName is the system and its version, as "linux 6.18".
func kernelName() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOOS
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return runtime.GOOS + " " + release
}
