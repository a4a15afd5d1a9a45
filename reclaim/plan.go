package reclaim

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"berth/netstate"
)

// Policy is what the person allows and how long each rung may take.
type Policy struct {
	// Signal is the polite signal, one that ParseSignal knows; 0 is SIGTERM.
	Signal syscall.Signal
	// Grace is how long a holder may take to exit after the polite signal.
	Grace time.Duration
	// NoKill stops before SIGKILL: a holder that ignores the signal stays.
	NoKill bool
	// Ends makes the end of the holders what the plan is about, and not the
	// port, which others may have too: it is neither waited nor looked for.
	Ends bool
	// Fast leaves out the polite signal and its grace: SIGKILL at once. NoKill
	// overrides it.
	Fast bool
	// Destroy lets the plan destroy what blocks the bind and can be destroyed
	// (SOCK_DESTROY) instead of waiting for it: TIME-WAIT sockets, orphans,
	// and the connection of a client that happens to use the port.
	Destroy bool
	// Watch is how long the port is watched at least after the bind has
	// succeeded, where it looks as if something starts the holder again, and
	// longer where that is known to take its time; 0 is not at all.
	Watch time.Duration
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
// be bound, with a safety net of 150 ms, and a look whether the holder returns.
func DefaultPolicy() Policy {
	return Policy{Grace: 3 * time.Second, Wait: netstate.ReclaimWait, Interval: 150 * time.Millisecond, Watch: DefaultWatch}
}

// StepKind is what a step does.
type StepKind string

// The steps of a plan, in the order in which they can occur.
const (
	StepTerm     StepKind = "term"     // Signal to Holder, then the grace
	StepKill     StepKind = "kill"     // SIGKILL to Holder if it is still alive
	StepShutdown StepKind = "shutdown" // shut the listeners Sockets down, right after SIGKILL
	StepCut      StepKind = "cut"      // destroy the connection Sockets[0] of Holder, by cookie
	StepDestroy  StepKind = "destroy"  // destroy Sockets by cookie
	StepWait     StepKind = "wait"     // probe until the port can be bound
	StepWatch    StepKind = "watch"    // look whether a stopped holder comes back
)

// Step is one thing that a plan will do.
type Step struct {
	Kind StepKind
	// Holder is the target of StepTerm and StepKill, and whose connection
	// StepCut ends.
	Holder netstate.Holder
	// Signal is that of StepTerm and StepKill.
	Signal syscall.Signal
	// Sockets are those of StepShutdown, StepCut and StepDestroy.
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

// Clears says when one of the verdict's blockers ends by itself.
func (p *Plan) Clears(s *netstate.Socket) netstate.Clears {
	for i := range p.Verdict.Blockers {
		if b := &p.Verdict.Blockers[i]; b.Socket == *s {
			return b.Clears
		}
	}
	return netstate.Clears{}
}

// Targets returns the holders that the plan signals, each once.
func (p *Plan) Targets() []netstate.Holder {
	var hs []netstate.Holder
	for _, s := range p.Steps {
		known := func(h netstate.Holder) bool { return h.ID == s.Holder.ID }
		if (s.Kind == StepTerm || s.Kind == StepKill) && !slices.ContainsFunc(hs, known) {
			hs = append(hs, s.Holder)
		}
	}
	return hs
}

// destroyNeeds is the right that it takes to destroy a socket.
const destroyNeeds = "root (CAP_NET_ADMIN) on a kernel that can destroy sockets"

// NewPlan says what would free the port of a verdict. It is pure. A verdict
// that is bindable gives a plan that only proves so.
func NewPlan(v netstate.Verdict, policy Policy, self Self) Plan {
	if policy.Signal == 0 {
		policy.Signal = syscall.SIGTERM
	}
	policy.Fast = policy.Fast && !policy.NoKill
	p := Plan{Spec: v.Spec, Verdict: v, Policy: policy, Feasible: true}
	var targets []netstate.Holder
	if !v.Bindable {
		targets = p.addHolders(self)
		p.addLingering(self, len(targets) > 0)
		switch v.Reason {
		case netstate.ReasonDenied, netstate.ReasonNoAddress, netstate.ReasonUnknown:
			p.refuse(netstate.Holder{}, v.Summary)
		}
	}
	if policy.Ends {
		return p
	}
	p.Steps = append(p.Steps, Step{
		Kind:   StepWait,
		AtMost: policy.Wait,
		Text:   fmt.Sprintf("probe %s until it can be bound%s", v.Spec, options(v.Spec)),
	})
	p.addWatch(targets, self)
	return p
}

func (p *Plan) refuse(h netstate.Holder, why string) {
	p.Refused = append(p.Refused, Refusal{Holder: h, Why: why})
	p.Feasible = false
}

// addLingering adds the destruction of what only the kernel holds, or says
// that it takes longer than the plan waits. If anybody is signalled, what that
// leaves behind is destroyed as well.
func (p *Plan) addLingering(self Self, signals bool) {
	var sockets []netstate.Socket
	var slow netstate.Clears
	late := false
	for i := range p.Verdict.Blockers {
		b := &p.Verdict.Blockers[i]
		if b.Socket.Owned() {
			continue
		}
		if !b.Socket.Lingering() {
			continue // an unaccepted connection goes with its listener
		}
		sockets = append(sockets, b.Socket)
		if !b.Clears.Known() || b.Clears.From.After(p.Verdict.At.Add(p.Policy.Wait)) {
			late = true
			if b.Clears.From.After(slow.From) {
				slow = b.Clears
			}
		}
	}
	switch {
	case p.Policy.Destroy:
		if len(sockets) == 0 && !signals {
			return
		}
		step := Step{Kind: StepDestroy, Sockets: sockets, AtMost: time.Second, Text: "destroy the TIME-WAIT sockets and orphans that are left on the port then"}
		if n := len(sockets); n > 0 {
			step.Text = fmt.Sprintf("destroy %s that only the kernel holds", count(n, "socket", "sockets"))
			p.Risks = append(p.Risks, "late segments of a destroyed connection could reach a new one with the same two endpoints (RFC 1337); for a restart on one machine that is harmless")
		}
		if !self.Destroy {
			step.Needs = destroyNeeds
			p.Feasible = p.Feasible && len(sockets) == 0
		}
		p.Steps = append(p.Steps, step)
	case late && slow.Known():
		p.refuse(netstate.Holder{}, fmt.Sprintf("%s %s for %s, longer than the plan waits (%s): wait for it, or destroy what is left (--destroy)",
			count(len(sockets), "TIME-WAIT or closing socket", "TIME-WAIT or closing sockets"), verb(len(sockets), "blocks", "block"), netstate.Seconds(slow.From.Sub(p.Verdict.At)), netstate.Seconds(p.Policy.Wait)))
	case late:
		p.refuse(netstate.Holder{}, fmt.Sprintf("%s without a fixed end %s the port: wait for it, or destroy what is left (--destroy)", count(len(sockets), "closing socket", "closing sockets"), verb(len(sockets), "blocks", "block")))
	}
}

func name(h netstate.Holder) string {
	if h.Name == "" {
		return fmt.Sprintf("pid %d", h.ID.PID)
	}
	return fmt.Sprintf("%s %d", netstate.PlainName(h.Name), h.ID.PID)
}

func options(b netstate.BindSpec) string {
	switch {
	case b.ReuseAddr && b.ReusePort:
		return " (SO_REUSEADDR, SO_REUSEPORT)"
	case b.ReuseAddr:
		return " (SO_REUSEADDR)"
	case b.ReusePort:
		return " (SO_REUSEPORT)"
	}
	return ""
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
