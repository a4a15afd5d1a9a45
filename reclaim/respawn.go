package reclaim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/netstate"
)

// DefaultWatch is long enough to see what is started again at once, and has to
// load before it listens.
const DefaultWatch = time.Second

// respawnSlack is how long what was started again may need to listen.
const respawnSlack = time.Second

// watchAtMost bounds a watch: whoever waits for the port does not wait for a
// supervisor that takes minutes, of which the plan's risks tell.
const watchAtMost = 12 * time.Second

// pauses are how long supervisors wait before they start a program again, where
// that is not 0 or not written in a unit. Those that wait longer each time are
// here with their first pause.
var pauses = map[netstate.SupervisorKind]time.Duration{
	netstate.SupervisorLaunchd:     10 * time.Second, // ThrottleInterval
	netstate.SupervisorRunit:       time.Second,
	netstate.SupervisorS6:          time.Second,
	netstate.SupervisorDaemontools: time.Second,
	netstate.SupervisorSupervisord: time.Second,
	netstate.SupervisorPM2:         100 * time.Millisecond,
	netstate.SupervisorDocker:      100 * time.Millisecond,
	netstate.SupervisorPodman:      100 * time.Millisecond,
}

// interactive are the parents that start a server once and leave it at that.
var interactive = []string{
	"sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "login", "su", "sudo", "doas", "env", "nohup", "timeout", "setsid", "tmux", "tmux: server", "screen", "sshd", "make",
}

// addWatch adds a look after the bind, where something is there that may start
// a target again: the longest that any of the targets needs.
func (p *Plan) addWatch(targets []netstate.Holder, self Self) {
	if p.Policy.Watch <= 0 {
		return
	}
	var watch Step
	for _, h := range targets {
		who := restarter(h, targets, self)
		if d := max(p.Policy.Watch, min(pause(h)+respawnSlack, watchAtMost)); who != "" && d > watch.AtMost {
			watch = Step{Kind: StepWatch, Holder: h, AtMost: d, Text: fmt.Sprintf("watch whether %s starts %s again", who, name(h))}
		}
	}
	if watch.Kind != "" {
		p.Steps = append(p.Steps, watch)
	}
}

// pause is how long a holder's supervisor waits before it starts it again, as
// far as that is known.
func pause(h netstate.Holder) time.Duration {
	if h.Supervisor == nil {
		return 0
	}
	return max(h.Supervisor.Delay, pauses[h.Supervisor.Kind])
}

// restarter names what may start a process again as soon as it is stopped, or
// "".
func restarter(h netstate.Holder, targets []netstate.Holder, self Self) string {
	stopped := func(pid int) bool {
		return slices.ContainsFunc(targets, func(t netstate.Holder) bool { return t.ID.PID == pid })
	}
	if s := h.Supervisor; s != nil {
		if s.Restarts == netstate.No || s.OnChange || s.PID == h.ID.PID || s.PID > 1 && stopped(s.PID) {
			return ""
		}
		if s.Name == "" {
			return supervisorText(s)
		}
		return supervisorText(s) + " (" + netstate.PlainName(s.Name) + ")"
	}
	switch {
	case strings.HasSuffix(h.Unit, ".service"):
		return "systemd (" + netstate.PlainName(h.Unit) + ")"
	case h.Container != "":
		return "the engine of its container"
	case len(h.Parents) == 0 || h.Parents[0].PID <= 1:
		return ""
	}
	parent := h.Parents[0]
	if parent.PID == self.PID || slices.Contains(self.Ancestors, parent.PID) || stopped(parent.PID) ||
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
