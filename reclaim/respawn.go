package reclaim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/netstate"
)

// DefaultWatch is long enough to see what a supervisor starts again at once or
// after the 100 ms that systemd waits by default (RestartSec).
const DefaultWatch = 500 * time.Millisecond

// interactive are the parents that start a server once and leave it at that.
var interactive = []string{
	"sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "login", "su", "sudo", "doas", "env", "nohup", "timeout", "setsid", "tmux", "tmux: server", "screen", "sshd", "make",
}

// addWatch adds a look after the bind, where something is there that may start
// a target again.
func (p *Plan) addWatch(targets []netstate.Holder, self Self) {
	if p.Policy.Watch <= 0 {
		return
	}
	for _, h := range targets {
		if who := restarter(h, targets, self); who != "" {
			p.Steps = append(p.Steps, Step{Kind: StepWatch, Holder: h, AtMost: p.Policy.Watch,
				Text: fmt.Sprintf("watch whether %s starts %s again", who, name(h))})
			return
		}
	}
}

// restarter names what may start a process again once it is stopped, or "".
func restarter(h netstate.Holder, targets []netstate.Holder, self Self) string {
	switch {
	case strings.HasSuffix(h.Unit, ".service"):
		return "systemd (" + netstate.PlainName(h.Unit) + ")"
	case h.Container != "":
		return "the engine of its container"
	case len(h.Parents) == 0 || h.Parents[0].PID <= 1:
		return ""
	}
	parent := h.Parents[0]
	stopped := func(t netstate.Holder) bool { return t.ID.PID == parent.PID }
	if parent.PID == self.PID || slices.Contains(self.Ancestors, parent.PID) || slices.ContainsFunc(targets, stopped) ||
		slices.Contains(interactive, strings.TrimPrefix(parent.Name, "-")) {
		return ""
	}
	return name(netstate.Holder{ID: netstate.ProcessID{PID: parent.PID}, Name: parent.Name})
}

// RespawnError says that a stopped holder is back. It unwraps to ErrRespawned.
type RespawnError struct {
	// Old was stopped, and New started After its end to do the same; -1 if
	// Old had ended by itself, nobody knows when.
	Old, New netstate.Holder
	After    time.Duration
	// By names what starts it again, as far as that is known.
	By      string
	Verdict netstate.Verdict
}

func (e *RespawnError) Error() string {
	text := fmt.Sprintf("%s holds the port again, started after the end of %s", name(e.New), name(e.Old))
	if e.After >= 0 {
		text = fmt.Sprintf("%s holds the port again, started %v after the end of %s", name(e.New), e.After.Round(time.Millisecond), name(e.Old))
	}
	if e.By == "" {
		return text + " by something that is not known"
	}
	return text + " by " + e.By
}

// Unwrap returns ErrRespawned.
func (e *RespawnError) Unwrap() error { return ErrRespawned }

// Hint says what helps.
func (e *RespawnError) Hint() string {
	if e.By == "" {
		return "find what starts it and stop that first"
	}
	if s := e.New.Supervisor; s != nil && s.Stop != "" {
		return "stop it for good: " + s.Stop
	}
	if strings.HasSuffix(e.New.Unit, ".service") {
		return "stop it for good: systemctl stop " + e.New.Unit
	}
	return "stop " + e.By + " first"
}

// respawned looks among the holders of a verdict for one that does what a
// stopped target did and was started after it.
func (r *run) respawned(v *netstate.Verdict) *RespawnError {
	for _, h := range v.Holders() {
		for _, old := range r.plan.Targets() {
			ended, ok := r.endedAt[old.ID.PID]
			if !ok || h.ID.PID == old.ID.PID || h.ID.Start < old.ID.Start || !sameServer(old, h) {
				continue
			}
			after := time.Duration(-1)
			if !ended.IsZero() {
				// A start time has the precision of the system's tick.
				after = max(h.Started.Sub(ended), 0)
			}
			return &RespawnError{Old: old, New: h, After: after, By: restarter(h, nil, Self{}), Verdict: *v}
		}
	}
	return nil
}

// sameServer: the same words, or the same unit, which may put other words
// behind the name.
func sameServer(old, h netstate.Holder) bool {
	return h.Name == old.Name && (slices.Equal(h.Cmdline, old.Cmdline) || old.Unit != "" && h.Unit == old.Unit)
}
