package report

import (
	"fmt"

	"berth/gatewaylaunch"
)

// Launch is a gatewaylaunch.Event as one line of a JSON stream. Fields that
// do not belong to the kind of event are left out.
type Launch struct {
	Schema  int      `json:"schema"`
	Event   string   `json:"event"`
	At      stamp    `json:"at"`
	Attempt int      `json:"attempt,omitempty"`
	Of      int      `json:"of,omitempty"`
	PID     int      `json:"pid,omitempty"`
	Code    *int     `json:"code,omitempty"`
	Signal  *int     `json:"signal,omitempty"`
	TookMS  *int64   `json:"took_ms,omitempty"`
	Stream  string   `json:"stream,omitempty"`
	Line    *string  `json:"line,omitempty"`
	Addr    string   `json:"addr,omitempty"` // where it listens
	WaitMS  *int64   `json:"wait_ms,omitempty"`
	Verdict *Verdict `json:"verdict,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// NewLaunch makes the JSON form of ev.
func NewLaunch(ev *gatewaylaunch.Event) Launch {
	j := Launch{
		Schema: Schema, Event: string(ev.Kind), At: stamp(ev.At),
		Attempt: ev.Attempt, Of: ev.Of, PID: ev.PID,
	}
	switch ev.Kind {
	case gatewaylaunch.EventExited, gatewaylaunch.EventInUse, gatewaylaunch.EventStopped:
		j.Code = &ev.Exit.Code
		if ev.Exit.Signal != 0 {
			j.Signal = &ev.Exit.Signal
		}
	case gatewaylaunch.EventOutput:
		j.Stream, j.Line = string(ev.Stream), &ev.Line
	case gatewaylaunch.EventReady:
		j.Addr = ev.Line
	case gatewaylaunch.EventRetry:
		j.WaitMS = millis(ev.Wait)
	}
	if ev.Took > 0 {
		j.TookMS = millis(ev.Took)
	}
	if ev.Verdict != nil {
		v := NewVerdict(ev.Verdict)
		j.Verdict = &v
	}
	if ev.Err != nil {
		j.Error = ev.Err.Error()
	}
	return j
}

// Launch writes what happened to the gateway as one sentence, with the time
// at its end.
func (t *Text) Launch(ev *gatewaylaunch.Event) error {
	if s := t.launch(ev); s != "" {
		t.line("%s. %s", s, clock(ev.At))
	}
	return t.err
}

func (t *Text) launch(ev *gatewaylaunch.Event) string {
	attempt := fmt.Sprintf("attempt %d of %d", ev.Attempt, ev.Of)
	switch ev.Kind {
	case gatewaylaunch.EventAttempt, gatewaylaunch.EventOutput:
		// EventStarted tells of the attempt, and the output speaks for itself.
		return ""
	case gatewaylaunch.EventFailed:
		return "" // The error that the launch returns says it, once.
	case gatewaylaunch.EventStarted:
		return fmt.Sprintf("%s: started pid %d", attempt, ev.PID)
	case gatewaylaunch.EventReady:
		return fmt.Sprintf("ready: pid %d listens on %s after %s", ev.PID, t.Clean(ev.Line), duration(ev.Took))
	case gatewaylaunch.EventNotReady:
		return t.failure(ev.Err)
	case gatewaylaunch.EventExited:
		return fmt.Sprintf("ended with %s after %s", ev.Exit, duration(ev.Took))
	case gatewaylaunch.EventStopped:
		return fmt.Sprintf("stopped with %s after %s", ev.Exit, duration(ev.Took))
	case gatewaylaunch.EventInUse:
		if ev.Verdict == nil {
			return attempt + " refused: it said that its address is taken, and nothing visible holds it"
		}
		return attempt + " refused: " + t.refusal(ev.Verdict, ev.Err)
	case gatewaylaunch.EventRetry:
		return "next attempt within " + duration(ev.Wait)
	}
	return t.Clean(string(ev.Kind))
}
