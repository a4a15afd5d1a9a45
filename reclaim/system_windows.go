package reclaim

import (
	"os"
	"syscall"
)

// blunt: Windows has no polite signal for a process that does not share our
// console, so a plan only ends it.
const blunt = true

// killName is what ends a process here.
const killName = "TerminateProcess"

func deliverable(syscall.Signal) os.Signal { return os.Kill }

// terminalLeader has no meaning here: the ancestors cover the console.
func terminalLeader() int { return 0 }
