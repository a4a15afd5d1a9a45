package reclaim

import (
	"fmt"
	"strings"
	"syscall"
)

// polite are the signals that ask a process to end: all of them can be caught,
// so a server can finish what it is doing. Package syscall has their numbers
// on every system.
var polite = []struct {
	name string
	sig  syscall.Signal
}{
	{"SIGTERM", syscall.SIGTERM},
	{"SIGINT", syscall.SIGINT},
	{"SIGHUP", syscall.SIGHUP},
	{"SIGQUIT", syscall.SIGQUIT},
}

// ParseSignal reads the name of a polite signal, with or without SIG and in
// any case: TERM, INT, HUP or QUIT.
func ParseSignal(text string) (syscall.Signal, error) {
	upper := strings.ToUpper(text)
	for _, p := range polite {
		if upper == p.name || "SIG"+upper == p.name {
			return p.sig, nil
		}
	}
	return 0, fmt.Errorf("signal %q is not TERM, INT, HUP or QUIT", text)
}

// SignalName returns "SIGTERM" for syscall.SIGTERM, and so on for the signals
// that a plan can contain.
func SignalName(sig syscall.Signal) string {
	for _, p := range polite {
		if p.sig == sig {
			return p.name
		}
	}
	if sig == syscall.SIGKILL {
		return killName
	}
	return fmt.Sprintf("signal %d", int(sig))
}
