package reclaim

import (
	"time"

	"berth/netstate"
)

// Policy is what the person allows and how long each rung may take.
type Policy struct {
	// Grace is how long a holder may take to exit after SIGTERM.
	Grace time.Duration
	// NoKill stops before SIGKILL: a holder that ignores SIGTERM stays.
	NoKill bool
	// Destroy lets the plan destroy the TIME-WAIT sockets and orphans that
	// block the bind (SOCK_DESTROY), instead of waiting for them.
	Destroy bool
	// Wait bounds the wait until the port can be bound.
	Wait time.Duration
	// Interval is the safety net of that wait; waking up is event-driven.
	Interval time.Duration
	// Own is the command line of the gateway that will be started, if any. A
	// holder that runs the same command as the same user is an earlier
	// instance of it, and needs no typed confirmation.
	Own []string
}

// DefaultPolicy is SIGTERM, 3 s, SIGKILL, then up to 3 s until the port can
// be bound, with a safety net of 150 ms.
func DefaultPolicy() Policy {
	return Policy{Grace: 3 * time.Second, Wait: 3 * time.Second, Interval: 150 * time.Millisecond}
}

// StepKind is what a step does.
type StepKind string

// The steps of a plan, in the order in which they can occur.
const (
	StepTerm    StepKind = "term"    // SIGTERM to Holder, then the grace
	StepKill    StepKind = "kill"    // SIGKILL to Holder if it is still alive
	StepDestroy StepKind = "destroy" // destroy Sockets by cookie
	StepWait    StepKind = "wait"    // probe until the port can be bound
)

// Step is one thing that a plan will do.
type Step struct {
	Kind StepKind
	// Holder is the target of StepTerm and StepKill.
	Holder netstate.Holder
	// Sockets are those of StepDestroy.
	Sockets []netstate.Socket
	// AtMost bounds the step's time.
	AtMost time.Duration
	// Text says the step as a person would: "SIGTERM to node 4211".
	Text string
	// Needs names a right that the step needs and this process lacks; empty
	// if nothing is missing.
	Needs string
}

// Refusal is a holder or a socket that no plan may touch, with the reason.
type Refusal struct {
	Holder netstate.Holder
	Why    string
}

// Plan is what will happen, as data: it can be printed, confirmed, dry-run
// and run, and it is the only thing that Run will do.
type Plan struct {
	Spec    netstate.BindSpec
	Verdict netstate.Verdict
	Policy  Policy
	Steps   []Step
	// Risks are sentences about what is lost: "3 clients will be cut off".
	Risks []string
	// Refused holders stay untouched. If any blocks the port, the plan cannot
	// free it, and Feasible is false.
	Refused  []Refusal
	Feasible bool
	// Typed is the name that a person must type before the plan may run,
	// because a target belongs to somebody else; empty if "yes" is enough.
	// TypedWhy says why.
	Typed    string
	TypedWhy string
}

// Empty reports whether there is nothing to do: the port can be bound now.
func (p *Plan) Empty() bool { return p.Verdict.Bindable }

// Targets returns the holders that the plan signals, each once.
func (p *Plan) Targets() []netstate.Holder {
	var hs []netstate.Holder
	for _, s := range p.Steps {
		if s.Kind == StepTerm {
			hs = append(hs, s.Holder)
		}
	}
	return hs
}
