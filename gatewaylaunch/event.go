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
	EventFound   EventKind = "found"   // it runs already, started by an earlier berth: PID
	EventOutput  EventKind = "output"  // one line of output: Stream, Line
	// EventListening says that its tree listens where it is expected to, and
	// that its health is still to be asked: PID and Line as in EventReady. It is
	// reported only if there is a Health.
	EventListening EventKind = "listening"
	// EventReady says that it is ready by all the evidence that was asked for:
	// PID is a process of its tree that listens, Line the address.
	EventReady  EventKind = "ready"
	EventExited EventKind = "exited" // the process ended: Exit, Took
	EventInUse  EventKind = "in-use" // it ended because the port was taken: Verdict names the holder
	EventRetry  EventKind = "retry"  // the next attempt follows within Wait
	// EventHeld says that the port is taken before anything was started:
	// Verdict names the holder. The first attempt begins the moment it is free,
	// and in any case after Wait.
	EventHeld    EventKind = "held"
	EventFailed  EventKind = "failed"  // no further attempt: Err
	EventStopped EventKind = "stopped" // it ended because it was asked to: Exit, Took
	// EventNotReady says that it is not ready after the ready timeout: Err is a
	// *NotReadyError. The process goes on, and so does the watching.
	EventNotReady EventKind = "not-ready"
	// EventHung says that it listens and accepts nothing: Err is a *HungError.
	// EventRecovered says that it accepts again.
	EventHung      EventKind = "hung"
	EventRecovered EventKind = "recovered"
)

// State is what the gateway is doing, as far as it can be seen from outside.
type State string

// The states of a gateway. It is the zero State before anything was started.
const (
	StateStarting  State = "starting"  // it runs, and is not known to listen where it is expected to
	StateListening State = "listening" // its tree listens on every expected address
	StateHealthy   State = "healthy"   // and its health was asked and answered
	StateHung      State = "hung"      // it listens and accepts nothing
	StateExited    State = "exited"
)

// after is the state after an event; healthy is set if health is asked.
func (s State) after(kind EventKind, health bool) State {
	switch kind {
	case EventStarted, EventFound:
		return StateStarting
	case EventListening:
		return StateListening
	case EventReady, EventRecovered:
		if health {
			return StateHealthy
		}
		return StateListening
	case EventHung:
		return StateHung
	case EventExited, EventStopped:
		if s != "" {
			return StateExited
		}
	}
	return s
}

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
	State   State // after this event
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

// unknownStatus is that of a process that is no child of this one.
var unknownStatus = ExitStatus{Code: -1}

// Known is false if nobody can tell how the process ended.
func (s ExitStatus) Known() bool { return s != unknownStatus }
