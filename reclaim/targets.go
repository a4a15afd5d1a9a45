package reclaim

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"berth/netstate"
)

// killAtMost bounds the wait after SIGKILL. A process that is still there
// then is stuck in the kernel, and no signal can help.
const killAtMost = 2 * time.Second

// addHolders adds the signals, or the reasons against them, and returns who
// gets one.
func (p *Plan) addHolders(self Self) []netstate.Holder {
	var targets []netstate.Holder
	var clients []*netstate.Blocker
	seen := map[int]bool{}
	for i := range p.Verdict.Blockers {
		b := &p.Verdict.Blockers[i]
		switch {
		case !b.Socket.Owned():
			continue
		case len(b.Holders) == 0:
			p.refuse(netstate.Holder{}, p.unseen(&b.Socket, self))
			continue
		case b.Outbound == netstate.Yes:
			clients = append(clients, b)
			continue
		}
		for _, h := range b.Holders {
			if seen[h.ID.PID] {
				continue
			}
			seen[h.ID.PID] = true
			if why := self.forbidden(h); why != "" {
				p.refuse(h, why)
			} else {
				targets = append(targets, h)
			}
		}
	}
	targets = parentsFirst(targets)
	p.addLadder(targets, self)
	p.addLosses(targets, self)
	for _, b := range clients {
		p.addClient(b, self)
	}
	return targets
}

// unseen says what helps against a blocker whose process is not visible.
func (p *Plan) unseen(s *netstate.Socket, self Self) string {
	help := "run berth as root"
	switch {
	case p.Verdict.Caps.Source != "" && !p.Verdict.Caps.Inodes:
		help = "its process cannot be found here, perhaps because /proc is not mounted"
	case self.UID == 0:
		help = "it runs in another container or has more privileges than this root"
	}
	return fmt.Sprintf("a process that this user may not see holds %s (%s): %s", s.Local, s.State, help)
}

// addClient: a client is never signalled. Its one connection can be destroyed,
// which frees a port that the system chose for it; a port that a client bound
// by number stays bound until it closes the socket. The kernel does not show
// which of the two it was, but the system chooses from a known range only.
func (p *Plan) addClient(b *netstate.Blocker, self Self) {
	h := b.Holders[0]
	client := fmt.Sprintf("is a client: its outgoing connection to %s uses this port, and stopping it would hit the wrong program", b.Socket.Remote)
	for _, sharer := range b.Holders {
		if why := self.forbidden(sharer); why != "" {
			p.refuse(sharer, why)
			return
		}
	}
	switch {
	case !p.Policy.Destroy && p.frees(b):
		p.refuse(h, client+"; --destroy ends only that connection")
	case !p.Policy.Destroy:
		p.refuse(h, client)
	case !p.frees(b):
		p.refuse(h, client+"; nor would destroying the connection free a port that the client has bound itself, as one outside of the ephemeral range must be")
	default:
		step := Step{
			Kind: StepCut, Holder: h, Sockets: []netstate.Socket{b.Socket}, AtMost: time.Second,
			Text: fmt.Sprintf("destroy the connection of %s to %s that uses this port: it will see a reset", name(h), b.Socket.Remote),
		}
		if !self.Destroy {
			step.Needs = destroyNeeds
			p.Feasible = false
		}
		p.Steps = append(p.Steps, step)
		p.ask(h, self.typed(h, Policy{}, 0))
	}
}

// frees reports whether destroying a client's connection frees its port.
func (p *Plan) frees(b *netstate.Blocker) bool {
	return p.Spec.Protocol == netstate.TCP && p.Verdict.Caps.Ephemeral(b.Socket.Local.Port())
}

// ask makes the plan one that must be confirmed by name, if there is a reason.
func (p *Plan) ask(h netstate.Holder, why string) {
	if why != "" && p.Typed == "" {
		p.Typed, p.TypedWhy = netstate.PlainName(h.Name), why
	}
}

// addLadder adds the rungs: the polite signal, SIGKILL, and with it the end of
// the listeners.
func (p *Plan) addLadder(targets []netstate.Holder, self Self) {
	for _, h := range targets {
		if self.lacks(h) != "" {
			p.Feasible = false
		}
	}
	if self.Blunt && len(targets) > 0 {
		p.addBluntly(targets)
		return
	}
	if !p.Policy.Fast {
		for _, h := range targets {
			p.Steps = append(p.Steps, Step{Kind: StepTerm, Holder: h, Signal: p.Policy.Signal, AtMost: p.Policy.Grace, Needs: self.lacks(h),
				Text: SignalName(p.Policy.Signal) + " to " + name(h)})
		}
	}
	if p.Policy.NoKill || len(targets) == 0 {
		return
	}
	when := "if the port is still held: "
	if p.Policy.Ends {
		when = "if it is still alive: "
	}
	if p.Policy.Fast {
		when = ""
		p.Risks = append(p.Risks, "SIGKILL at once: unsaved work is lost, no shutdown hook runs, and files may stay locked for the moment that the process takes to end")
	}
	for _, h := range targets {
		p.Steps = append(p.Steps, Step{Kind: StepKill, Holder: h, Signal: syscall.SIGKILL, AtMost: killAtMost, Needs: self.lacks(h),
			Text: when + "SIGKILL to " + name(h)})
	}
	if !p.Policy.Ends {
		p.addShutdown() // whoever else has the listener needs it
	}
}

// addBluntly is the ladder of a system whose only signal ends the process. What
// no signal can ask for is not pretended: there is no grace, and a plan that
// must not kill does nothing.
func (p *Plan) addBluntly(targets []netstate.Holder) {
	for _, h := range targets {
		if p.Policy.NoKill {
			p.refuse(h, "cannot be asked to end: this system has no polite signal, only one that ends a process at once, which --no-kill forbids")
			continue
		}
		p.Steps = append(p.Steps, Step{Kind: StepKill, Holder: h, Signal: syscall.SIGKILL, AtMost: killAtMost, Text: "end " + name(h) + " at once"})
	}
	if !p.Policy.NoKill {
		p.Risks = append(p.Risks, "this system has no polite signal and no grace: unsaved work is lost, and no shutdown hook runs")
	}
}

// addShutdown lets the port be free before the killed processes are gone,
// which takes 100 ms and more for a gigabyte of memory. It helps a binder with
// SO_REUSEADDR, if nothing but listeners is in the way. A listener that a
// process shares which nobody signals would go deaf, so every process must be
// visible.
func (p *Plan) addShutdown() {
	if !p.Spec.ReuseAddr || p.Spec.Protocol != netstate.TCP {
		return
	}
	var listeners []netstate.Socket
	for i := range p.Verdict.Blockers {
		switch b := &p.Verdict.Blockers[i]; {
		case slices.ContainsFunc(b.Holders, activated):
			return // its supervisor has the listener too, and goes on with it
		case b.Socket.State == netstate.Listen:
			listeners = append(listeners, b.Socket)
		case b.Socket.Owned():
			return // it blocks until its process is gone
		}
	}
	if !p.Verdict.Caps.AllHolders {
		if p.Policy.Fast {
			p.Risks = append(p.Risks, "the port is free when the process has ended, and not before: only root sees everybody who may share its listener, and may shut that down")
		}
		return
	}
	text := "with it: shut its listener down, so that the port is free before the process is gone"
	if len(listeners) > 1 {
		text = "with it: shut the listeners down, so that the port is free before the processes are gone"
	}
	p.Steps = append(p.Steps, Step{Kind: StepShutdown, Sockets: listeners, AtMost: time.Second, Text: text})
}

// addLosses says what is lost with the targets, and asks for their name where
// that is a lot.
func (p *Plan) addLosses(targets []netstate.Holder, self Self) {
	clients := p.Verdict.Counts[netstate.Established]
	if p.Spec.Protocol == netstate.UDP {
		clients = 0 // a socket with a peer is one of the server's own
	}
	for _, h := range targets {
		p.ask(h, self.typed(h, p.Policy, clients))
		if text := supervisorRisk(h); text != "" {
			p.Risks = append(p.Risks, text)
			continue
		}
		if strings.HasSuffix(h.Unit, ".service") {
			p.Risks = append(p.Risks, fmt.Sprintf("%s runs in %s, and systemd may start it again: to stop it for good, use systemctl stop %s (systemctl --user for a user's unit)", name(h), h.Unit, h.Unit))
		}
		if h.Container != "" {
			p.Risks = append(p.Risks, fmt.Sprintf("%s runs in a container (%s), whose engine may start it again", name(h), h.Container))
		}
	}
	if len(targets) > 0 && clients > 0 {
		p.Risks = append(p.Risks, cutOff(clients))
		if p.leavesTimeWait() && !p.Policy.Destroy {
			p.Risks = append(p.Risks, "the listener has no SO_REUSEADDR, so its connections may block the port as TIME-WAIT for 60 s afterwards; --destroy removes them")
		}
	}
	for _, h := range targets {
		if text := p.tooSoon(h, self); text != "" {
			p.Risks = append(p.Risks, text)
		}
	}
}

// openclawShutdown is how long OpenClaw's gateway gives itself to finish what
// its agents are doing.
const openclawShutdown = 315 * time.Second

// tooSoon warns if a target is known to take longer to shut down than it gets.
func (p *Plan) tooSoon(h netstate.Holder, self Self) string {
	if p.Policy.Fast || p.Policy.NoKill || self.Blunt || p.Policy.Grace >= openclawShutdown || !isOpenClaw(h.Cmdline) {
		return ""
	}
	return fmt.Sprintf("%s may take up to %v to finish its work: if it still has the port after %s, SIGKILL cuts that off (--grace sets the time)",
		name(h), openclawShutdown, netstate.Seconds(p.Policy.Grace))
}

// isOpenClaw knows the gateway by its words, or by the title that it gives
// itself.
func isOpenClaw(cmdline []string) bool {
	for i, word := range cmdline {
		switch title, _, _ := strings.Cut(base(word), " "); title {
		case "openclaw-gateway":
			return true
		case "openclaw", "openclaw.mjs":
			return slices.Contains(cmdline[i+1:], "gateway")
		}
	}
	return false
}

// activated reports whether a supervisor owns the listener and lends it to the
// process, which must then not shut it down (sd_listen_fds(3)).
func activated(h netstate.Holder) bool { return h.Supervisor != nil && h.Supervisor.HoldsPort }

func cutOff(clients int) string {
	return fmt.Sprintf("%s on this port will be cut off", count(clients, "connection", "connections"))
}

// Weigh adds to a plan what else would be lost with its targets, who is cut off
// by name, and whether a target must be typed for what hangs on it.
func (p *Plan) Weigh(im netstate.Impact, self Self) {
	targets := p.Targets()
	if im.Clients.Count > 0 {
		// The names say what the number alone said before.
		p.Risks = slices.DeleteFunc(p.Risks, func(risk string) bool {
			return risk == cutOff(p.Verdict.Counts[netstate.Established])
		})
	}
	p.Risks = append(p.Risks, impactRisks(&im, targets, p.Verdict.At)...)
	for _, h := range targets {
		for _, hi := range im.Holders {
			if hi.ID == h.ID {
				p.ask(h, self.typedInPlace(h, hi, self.Session))
			}
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

// parentsFirst orders targets so that a master is told to stop before its
// workers, which it would otherwise replace.
func parentsFirst(hs []netstate.Holder) []netstate.Holder {
	rest := slices.Clone(hs)
	out := make([]netstate.Holder, 0, len(hs))
	for len(rest) > 0 {
		// The first one without an ancestor among the rest. If the ancestries
		// contradict each other, since they were read at different times, any.
		next := max(slices.IndexFunc(rest, func(h netstate.Holder) bool {
			return !slices.ContainsFunc(rest, func(other netstate.Holder) bool { return descends(h, other) })
		}), 0)
		out = append(out, rest[next])
		rest = slices.Delete(rest, next, next+1)
	}
	return out
}

func descends(h, from netstate.Holder) bool {
	return slices.ContainsFunc(h.Parents, func(p netstate.Parent) bool { return p.PID == from.ID.PID })
}
