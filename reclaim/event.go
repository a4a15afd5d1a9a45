package reclaim

import (
	"time"

	"berth/netstate"
)

// EventKind is what happened.
type EventKind string

// The events of a run, each at most a few times except probe.
const (
	EventSignal    EventKind = "signal"    // Signal was sent to Holder
	EventExit      EventKind = "exit"      // Holder is gone, Took after its first signal
	EventDraining  EventKind = "draining"  // Holder has let the port go Took after its signal, lives on, and is not killed
	EventStale     EventKind = "stale"     // Holder's pid is another program now; nothing was signalled
	EventSurvived  EventKind = "survived"  // Holder outlived the grace and the plan has no SIGKILL
	EventDestroyed EventKind = "destroyed" // Count sockets were destroyed
	EventShutdown  EventKind = "shutdown"  // Count listeners were shut down, or, with Err, none: the port hangs on the exits
	EventRestored  EventKind = "restored"  // Holder came to share a listener meanwhile: it listens again, or, with Err, not
	EventCut       EventKind = "cut"       // the connection of Holder that used the port was destroyed
	EventWatch     EventKind = "watch"     // the port is free, and until Deadline it is watched whether Holder comes back
	EventRespawn   EventKind = "respawn"   // Holder does what a stopped one did, Took after that one's end
	EventProbe     EventKind = "probe"     // one real bind: Probe, and Verdict if it was refused
	EventBindable  EventKind = "bindable"  // the port can be bound: the end
	EventTimeout   EventKind = "timeout"   // it could not, within the plan's bound
	EventError     EventKind = "error"     // the run cannot go on: Err
	EventCancelled EventKind = "cancelled" // the caller cancelled; what was done stays done
)

// Event is one thing that happened during a run, reported in order and from
// one goroutine.
type Event struct {
	At   time.Time
	Kind EventKind
	// Step is the index in Plan.Steps that the event belongs to.
	Step   int
	Holder netstate.Holder
	Signal string
	Took   time.Duration
	Count  int
	Probe  netstate.Probe
	// Verdict explains a refused probe: who refuses now and until when.
	Verdict *netstate.Verdict
	// Deadline is the end of the wait that a probe belongs to.
	Deadline time.Time
	Err      error
}
