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
	EventReady   EventKind = "ready"   // a process of its tree listens on the port: PID is that process
	EventExited  EventKind = "exited"  // the process ended: Exit, Took
	EventInUse   EventKind = "in-use"  // it ended because the port was taken: Verdict names the holder
	EventRetry   EventKind = "retry"   // the next attempt follows within Wait
	EventFailed  EventKind = "failed"  // no further attempt: Err
	EventStopped EventKind = "stopped" // it ended because it was asked to
)

// Stream names an output of the gateway.
type Stream string

// The two output streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Event is one thing that happened during a launch, reported in order and
// from one goroutine.
type Event struct {
	At      time.Time
	Kind    EventKind
	Attempt int
	// Of is the number of attempts that the policy allows.
	Of   int
	PID  int
	Exit ExitStatus
	Took time.Duration
	// Line is one line of output without its newline, cut at 4 KiB and not
	// cleaned: whoever shows it must remove control characters.
	Stream  Stream
	Line    string
	Wait    time.Duration
	Verdict *netstate.Verdict
	Err     error
}

// ExitStatus is how a process ended.
type ExitStatus struct {
	// Code is the exit code, or 128 + Signal if a signal ended the process.
	Code   int
	Signal int
}
