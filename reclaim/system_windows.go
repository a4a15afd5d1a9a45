package reclaim

import (
	"os"
	"syscall"
)

// deliverable: Windows has no polite signal for a process that does not share
// our console, so the first rung already ends it.
func deliverable(syscall.Signal) os.Signal { return os.Kill }

// terminalLeader has no meaning here: the ancestors cover the console.
func terminalLeader() int { return 0 }
