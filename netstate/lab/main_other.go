//go:build !linux

package lab

import (
	"os"
	"runtime"
)

func runTests(m Runner) int {
	os.Setenv(failureEnv, runtime.GOOS+" has none")
	return m.Run()
}

func isolated() bool { return false }
