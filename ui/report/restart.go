package report

import (
	"fmt"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/reclaim"
)

// Restart is a gatewaylaunch.RestartEvent as one line of a JSON stream, unless
// it is one of a launch or of a reclaim, which have forms of their own. Fields
// that do not belong to the kind of event are left out.
type Restart struct {
	Schema int    `json:"schema"`
	Event  string `json:"event"`
	At     stamp  `json:"at"`
	Count  *int   `json:"count,omitempty"`
	// Handover is the order that is used instead of the one asked for.
	Handover string `json:"handover,omitempty"`
	Why      string `json:"why,omitempty"`
	TookMS   *int64 `json:"took_ms,omitempty"`
	Error    string `json:"error,omitempty"`
	Call     *Call  `json:"call,omitempty"`
}

// Call is a bind or listen that a server has asked for.
type Call struct {
	How     string `json:"how"`
	PID     int    `json:"pid"`
	Program string `json:"program"`
	Addr    string `json:"addr"`
	Family  string `json:"family"`
	// The options are null where the socket could not be looked at, and Errno
	// is null where the server made the call itself; "" is success.
	ReuseAddr *bool   `json:"reuseaddr"`
	ReusePort *bool   `json:"reuseport"`
	V6Only    *bool   `json:"v6only"`
	Backlog   *int    `json:"backlog,omitempty"`
	Errno     *string `json:"errno"`
	WaitedMS  *int64  `json:"waited_ms,omitempty"`
}

// NewRestart makes the JSON form of ev.
func NewRestart(ev *gatewaylaunch.RestartEvent) any {
	switch {
	case ev.Launch != nil:
		return NewLaunch(ev.Launch)
	case ev.Stop != nil:
		return NewEvent(ev.Stop)
	}
	j := Restart{Schema: Schema, Event: string(ev.Kind), At: stamp(ev.At), Why: ev.Why}
	switch ev.Kind {
	case gatewaylaunch.RestartAdopted:
		j.Count = &ev.Count
	case gatewaylaunch.RestartWeaker:
		j.Handover = string(ev.How)
	case gatewaylaunch.RestartDone:
		j.Event, j.TookMS = "restarted", millis(ev.Took)
	case gatewaylaunch.RestartBoth:
		j.Error = ev.Err.Error()
	case gatewaylaunch.RestartBind:
		return NewCall(ev.Bind)
	}
	return j
}

// NewCall makes the JSON form of what a server asked for.
func NewCall(e *bindnotify.Event) Restart {
	return Restart{Schema: Schema, Event: string(e.Kind), At: stamp(e.At), Why: e.Why, Call: newCall(e)}
}

// Call writes what a server asked for and got as one line.
func (t *Text) Call(e *bindnotify.Event) error {
	t.line("%s. %s", t.Clean(e.Text()), clock(e.At))
	return t.err
}

func newCall(e *bindnotify.Event) *Call {
	c := &Call{
		How: string(e.How), PID: e.Call.PID, Program: e.Call.Program,
		Addr: e.Call.Addr.String(), Family: e.Call.Family.String(),
	}
	if e.Call.Options {
		c.ReuseAddr, c.ReusePort, c.V6Only = &e.Call.ReuseAddr, &e.Call.ReusePort, &e.Call.V6Only
	}
	if e.Kind == bindnotify.KindListen {
		c.Backlog = &e.Call.Backlog
	}
	if e.How != bindnotify.HowPassed {
		errno := errnoName(e)
		c.Errno = &errno
	}
	if e.Waited > 0 {
		c.WaitedMS = millis(e.Waited)
	}
	return c
}

func errnoName(e *bindnotify.Event) string {
	if e.Errno == 0 {
		return ""
	}
	return netstate.ErrnoName(e.Errno)
}

// RestartPlan writes in which order the old server ends and the new one
// begins.
func (t *Text) RestartPlan(p *reclaim.Plan, how gatewaylaunch.Handover, command string) error {
	t.line("%s %s", t.verdictMark(&p.Verdict), t.bold(t.Clean(p.Verdict.Summary)))
	t.line("to restart %s (%s):", p.Spec, how)
	var rows [][]string
	add := func(text, most, needs string) {
		rows = append(rows, []string{fmt.Sprintf("  %d", len(rows)+1), t.Clean(text), most, needs})
	}
	before, after := how.Around(command)
	for _, text := range before {
		add(text, "", "")
	}
	for _, s := range p.Steps {
		add(s.Text, t.bound(s.AtMost), t.needs(s.Needs))
	}
	for _, text := range after {
		add(text, "", "")
	}
	for _, l := range table(rows) {
		t.line("%s", l)
	}
	for _, r := range p.Risks {
		t.line("%s", t.warn(r))
	}
	if p.Typed != "" {
		t.line("%s", t.warn(p.TypedWhy+": the name "+p.Typed+" must be typed to confirm"))
	}
	return t.err
}

// Restart writes what happened as one sentence, with the time at its end.
func (t *Text) Restart(ev *gatewaylaunch.RestartEvent) error {
	switch {
	case ev.Launch != nil:
		return t.Launch(ev.Launch)
	case ev.Stop != nil:
		return t.Event(ev.Stop)
	}
	if s := t.restart(ev); s != "" {
		t.line("%s. %s", s, clock(ev.At))
	}
	return t.err
}

func (t *Text) restart(ev *gatewaylaunch.RestartEvent) string {
	switch ev.Kind {
	case gatewaylaunch.RestartAdopted:
		if ev.Count == 1 {
			return "the listening socket is kept open"
		}
		return fmt.Sprintf("%d listening sockets are kept open", ev.Count)
	case gatewaylaunch.RestartWeaker:
		text := "the socket cannot be handed over, so clients are refused for a moment: "
		return text + t.Clean(ev.Why)
	case gatewaylaunch.RestartDone:
		return "the new server serves, after " + duration(ev.Took)
	case gatewaylaunch.RestartBoth:
		return "the new server serves, and the old one beside it: " + t.Clean(ev.Err.Error())
	case gatewaylaunch.RestartBind:
		return t.call(ev.Bind)
	}
	return t.Clean(string(ev.Kind))
}

func (t *Text) call(e *bindnotify.Event) string {
	who := fmt.Sprintf("%s %d", t.Clean(e.Call.Program), e.Call.PID)
	switch {
	case e.Kind == bindnotify.KindListen && e.Errno == 0:
		return "" // that it is ready is told by the launch
	case e.Kind == bindnotify.KindHeld && e.Why != "":
		return fmt.Sprintf("%s waits for %s: %s", who, e.Call.Addr, t.Clean(e.Why))
	case e.Kind == bindnotify.KindHeld:
		return fmt.Sprintf("%s waits for %s, which is taken", who, e.Call.Addr)
	case e.How == bindnotify.HowGiven:
		return fmt.Sprintf("%s has got the old server's socket of %s", who, e.Call.Addr)
	case e.Errno != 0:
		return fmt.Sprintf("%s was refused %s: %s", who, e.Call.Addr, netstate.ErrnoName(e.Errno))
	case e.Waited > 0:
		return fmt.Sprintf("%s has got %s after it waited %s", who, e.Call.Addr, duration(e.Waited))
	}
	return ""
}
