package reclaim

import (
	"fmt"
	"slices"
	"strings"
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
	return Policy{Grace: 3 * time.Second, Wait: netstate.ReclaimWait, Interval: 150 * time.Millisecond}
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
		if s.Kind == StepTerm {
			hs = append(hs, s.Holder)
		}
	}
	return hs
}

// killAtMost bounds the wait after SIGKILL. A process that is still there
// then is stuck in the kernel, and no signal can help.
const killAtMost = 2 * time.Second

// NewPlan says what would free the port of a verdict. It is pure. A verdict
// that is bindable gives a plan that only proves so.
func NewPlan(v netstate.Verdict, policy Policy, self Self) Plan {
	p := Plan{Spec: v.Spec, Verdict: v, Policy: policy, Feasible: true}
	if !v.Bindable {
		p.addHolders(self)
		p.addLingering(self)
		switch v.Reason {
		case netstate.ReasonDenied, netstate.ReasonNoAddress, netstate.ReasonUnknown:
			p.refuse(netstate.Holder{}, v.Summary)
		}
	}
	p.Steps = append(p.Steps, Step{
		Kind:   StepWait,
		AtMost: policy.Wait,
		Text:   fmt.Sprintf("probe %s until it can be bound%s", v.Spec, options(v.Spec)),
	})
	return p
}

func (p *Plan) refuse(h netstate.Holder, why string) {
	p.Refused = append(p.Refused, Refusal{Holder: h, Why: why})
	p.Feasible = false
}

// addHolders adds the signals, or the reasons against them.
func (p *Plan) addHolders(self Self) {
	targets := make([]netstate.Holder, 0, 4)
	seen := map[int]bool{}
	for i := range p.Verdict.Blockers {
		b := &p.Verdict.Blockers[i]
		if !b.Socket.Owned() {
			continue
		}
		if len(b.Holders) == 0 {
			help := "run berth as root"
			switch {
			case p.Verdict.Caps.Source != "" && !p.Verdict.Caps.Inodes:
				help = "its process cannot be found here, perhaps because /proc is not mounted"
			case self.UID == 0:
				help = "it runs in another container or has more privileges than this root"
			}
			p.refuse(netstate.Holder{}, fmt.Sprintf("a process that this user may not see holds %s (%s): %s", b.Socket.Local, b.Socket.State, help))
			continue
		}
		for _, h := range b.Holders {
			if seen[h.ID.PID] {
				continue
			}
			seen[h.ID.PID] = true
			if why := self.forbidden(h); why != "" {
				p.refuse(h, why)
			} else if b.Outbound == netstate.Yes {
				p.refuse(h, fmt.Sprintf("is a client: its outgoing connection to %s uses this port, and stopping it would hit the wrong program", b.Socket.Remote))
			} else {
				targets = append(targets, h)
			}
		}
	}
	clients := p.Verdict.Counts[netstate.Established]
	if p.Spec.Protocol == netstate.UDP {
		clients = 0 // a socket with a peer is one of the server's own
	}
	for _, h := range parentsFirst(targets) {
		needs := self.lacks(h)
		if needs != "" {
			p.Feasible = false
		}
		p.Steps = append(p.Steps, Step{Kind: StepTerm, Holder: h, AtMost: p.Policy.Grace, Needs: needs,
			Text: "SIGTERM to " + name(h)})
		if why := self.typed(h, p.Policy, clients); why != "" && p.Typed == "" {
			p.Typed, p.TypedWhy = netstate.PlainName(h.Name), why
		}
		if strings.HasSuffix(h.Unit, ".service") {
			p.Risks = append(p.Risks, fmt.Sprintf("%s runs in %s, and systemd may start it again: to stop it for good, use systemctl stop %s (systemctl --user for a user's unit)", name(h), h.Unit, h.Unit))
		}
		if h.Container != "" {
			p.Risks = append(p.Risks, fmt.Sprintf("%s runs in a container (%s), whose engine may start it again", name(h), h.Container))
		}
	}
	if !p.Policy.NoKill {
		for _, h := range parentsFirst(targets) {
			p.Steps = append(p.Steps, Step{Kind: StepKill, Holder: h, AtMost: killAtMost, Needs: self.lacks(h),
				Text: "if it is still alive: SIGKILL to " + name(h)})
		}
	}
	if len(targets) > 0 && clients > 0 {
		p.Risks = append(p.Risks, fmt.Sprintf("%s on this port will be cut off", count(clients, "connection", "connections")))
		if p.leavesTimeWait() && !p.Policy.Destroy {
			p.Risks = append(p.Risks, "the listener has no SO_REUSEADDR, so its connections may block the port as TIME-WAIT for 60 s afterwards; --destroy removes them")
		}
	}
}

// leavesTimeWait: connections inherit the listener's options, and what they
// leave behind blocks if the flag was not set.
func (p *Plan) leavesTimeWait() bool {
	for i := range p.Verdict.Blockers {
		if s := &p.Verdict.Blockers[i].Socket; s.State == netstate.Listen && s.ReuseAddr == netstate.No {
			return true
		}
	}
	return !p.Spec.ReuseAddr
}

// addLingering adds the destruction of what only the kernel holds, or says
// that it takes longer than the plan waits.
func (p *Plan) addLingering(self Self) {
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
		if len(sockets) == 0 && len(p.Steps) == 0 {
			return
		}
		step := Step{Kind: StepDestroy, Sockets: sockets, AtMost: time.Second, Text: "destroy the TIME-WAIT sockets and orphans that are left on the port then"}
		if n := len(sockets); n > 0 {
			step.Text = fmt.Sprintf("destroy %s that only the kernel holds", count(n, "socket", "sockets"))
			p.Risks = append(p.Risks, "late segments of a destroyed connection could reach a new one with the same two endpoints (RFC 1337); for a restart on one machine that is harmless")
		}
		if !self.Destroy {
			step.Needs = "root (CAP_NET_ADMIN) on a kernel that can destroy sockets"
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

// parentsFirst orders targets so that a master is told to stop before its
// workers, which it would otherwise replace: a parent has fewer ancestors.
func parentsFirst(hs []netstate.Holder) []netstate.Holder {
	out := slices.Clone(hs)
	slices.SortStableFunc(out, func(a, b netstate.Holder) int { return len(a.Parents) - len(b.Parents) })
	return out
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
