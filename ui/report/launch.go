package report

import (
	"fmt"
	"strconv"

	"berth/gatewaylaunch"
)

// Launch is a gatewaylaunch.Event as one line of a JSON stream. Fields that
// do not belong to the kind of event are left out.
type Launch struct {
	Schema  int      `json:"schema"`
	Event   string   `json:"event"`
	At      stamp    `json:"at"`
	State   string   `json:"state,omitempty"`
	Attempt int      `json:"attempt,omitempty"`
	Of      int      `json:"of,omitempty"`
	PID     int      `json:"pid,omitempty"`
	Code    *code    `json:"code,omitempty"`
	Signal  *int     `json:"signal,omitempty"`
	TookMS  *int64   `json:"took_ms,omitempty"`
	Stream  string   `json:"stream,omitempty"`
	Line    *string  `json:"line,omitempty"`
	Addr    string   `json:"addr,omitempty"` // where it listens
	Said    string   `json:"said,omitempty"` // about a taken address, which the kernel knows of none
	WaitMS  *int64   `json:"wait_ms,omitempty"`
	Verdict *Verdict `json:"verdict,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// code is an exit code, or null where only the process's parent knows it.
type code gatewaylaunch.ExitStatus

// MarshalJSON writes a number or null.
func (c code) MarshalJSON() ([]byte, error) {
	if !gatewaylaunch.ExitStatus(c).Known() {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(c.Code), 10), nil
}

// NewLaunch makes the JSON form of ev.
func NewLaunch(ev *gatewaylaunch.Event) Launch {
	j := Launch{
		Schema: Schema, Event: string(ev.Kind), At: stamp(ev.At),
		State: string(ev.State), Attempt: ev.Attempt, Of: ev.Of, PID: ev.PID,
	}
	switch ev.Kind {
	case gatewaylaunch.EventExited, gatewaylaunch.EventInUse, gatewaylaunch.EventStopped:
		j.Code = (*code)(&ev.Exit)
		if ev.Exit.Signal != 0 {
			j.Signal = &ev.Exit.Signal
		}
	case gatewaylaunch.EventOutput:
		j.Stream, j.Line = string(ev.Stream), &ev.Line
	case gatewaylaunch.EventListening, gatewaylaunch.EventReady, gatewaylaunch.EventHung, gatewaylaunch.EventRecovered:
		j.Addr = ev.Line
	case gatewaylaunch.EventRetry, gatewaylaunch.EventHeld:
		j.WaitMS = millis(ev.Wait)
	}
	if ev.Kind == gatewaylaunch.EventExited {
		j.Said = ev.Line
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
	if ev.Of == 0 { // as many as fit into a time
		attempt = fmt.Sprintf("attempt %d", ev.Attempt)
	}
	switch ev.Kind {
	case gatewaylaunch.EventAttempt, gatewaylaunch.EventOutput:
		// EventStarted tells of the attempt, and the output speaks for itself.
		return ""
	case gatewaylaunch.EventFailed:
		return "" // The error that the launch returns says it, once.
	case gatewaylaunch.EventStarted:
		return fmt.Sprintf("%s: started pid %d", attempt, ev.PID)
	case gatewaylaunch.EventFound:
		return fmt.Sprintf("found pid %d running", ev.PID)
	case gatewaylaunch.EventHeld:
		return fmt.Sprintf("%s. The command is started as soon as the port is free, at the latest in %s", t.refusal(ev.Verdict, ev.Err), duration(ev.Wait))
	case gatewaylaunch.EventListening:
		return fmt.Sprintf("pid %d listens on %s after %s, and is asked for its health", ev.PID, t.Clean(ev.Line), duration(ev.Took))
	case gatewaylaunch.EventReady:
		if ev.State == gatewaylaunch.StateHealthy {
			return fmt.Sprintf("ready: pid %d listens on %s and is healthy after %s", ev.PID, t.Clean(ev.Line), duration(ev.Took))
		}
		return fmt.Sprintf("ready: pid %d listens on %s after %s", ev.PID, t.Clean(ev.Line), duration(ev.Took))
	case gatewaylaunch.EventRecovered:
		return fmt.Sprintf("it accepts connections again on %s", t.Clean(ev.Line))
	case gatewaylaunch.EventNotReady, gatewaylaunch.EventHung:
		return t.failure(ev.Err)
	case gatewaylaunch.EventExited:
		if ev.Line != "" {
			return fmt.Sprintf("ended with %s after %s. It spoke of an address in use, and the kernel knows of none: %s", ev.Exit, duration(ev.Took), t.Clean(ev.Line))
		}
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
