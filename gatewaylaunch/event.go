package gatewaylaunch

import (
	"time"

	"berth/netstate"
)

// EventKind is what happened to the gateway.
type EventKind string

// The events of a launch.
const (
	EventAttempt EventKind = "attempt" // attempt Attempt of Of begins
	EventStarted EventKind = "started" // the process runs: PID
	EventOutput  EventKind = "output"  // one line of output: Stream, Line
	EventReady   EventKind = "ready"   // a process of its tree listens on the port: PID is that process, Line the address
	EventExited  EventKind = "exited"  // the process ended: Exit, Took
	EventInUse   EventKind = "in-use"  // it ended because the port was taken: Verdict names the holder
	EventRetry   EventKind = "retry"   // the next attempt follows within Wait
	// EventHeld says that the port is taken before anything was started:
	// Verdict names the holder. The first attempt begins the moment it is free,
	// and in any case after Wait.
	EventHeld    EventKind = "held"
	EventFailed  EventKind = "failed"  // no further attempt: Err
	EventStopped EventKind = "stopped" // it ended because it was asked to: Exit, Took
	// EventNotReady says that nothing listens yet after the ready timeout: Err
	// is a *NotReadyError. The process goes on, and so does the watching.
	EventNotReady EventKind = "not-ready"
)

// Stream names an output of the gateway.
type Stream string

// The two output streams, and what stands for both where they go to one file.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
	Both   Stream = "output"
)

// Event is one thing that happened during a launch, reported in order and
// from one goroutine.
type Event struct {
	At      time.Time
	Kind    EventKind
	Attempt int
	// Of is the number of attempts that the policy allows, or 0 if it allows
	// any number within a time.
	Of   int
	PID  int
	Exit ExitStatus
	// Took is the time since the process was started, and in EventStopped
	// the time since it was asked to end.
	Took time.Duration
	// Line is one line of output without its newline, cut at 4 KiB and not
	// cleaned: whoever shows it must remove control characters. In EventReady
	// it is the address that the gateway listens on, "127.0.0.1:8080".
	Stream Stream
	Line   string
	Wait   time.Duration
	// Verdict of EventInUse explains the refused bind. It is nil if the
	// gateway said that the address was taken and nothing visible confirms
	// it. In EventExited it is set if the port was taken all the time although
	// the gateway ended for another reason, by its own words.
	Verdict *netstate.Verdict
	Err     error
}

// ExitStatus is how a process ended.
type ExitStatus struct {
	// Code is the exit code, or 128 + Signal if a signal ended the process.
	Code   int
	Signal int
}
