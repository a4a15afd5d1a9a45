package report

import (
	"fmt"

	"berth/netstate"
	"berth/reclaim"
)

// Event is a reclaim.Event as one line of a JSON stream. Fields that do not
// belong to the kind of event are left out.
type Event struct {
	Schema     int      `json:"schema"`
	Event      string   `json:"event"`
	At         stamp    `json:"at"`
	Step       *int     `json:"step,omitempty"`
	Holder     *Holder  `json:"holder,omitempty"`
	Signal     string   `json:"signal,omitempty"`
	TookMS     *int64   `json:"took_ms,omitempty"`
	Count      *int     `json:"count,omitempty"`
	Bindable   *bool    `json:"bindable,omitempty"`
	Verdict    *Verdict `json:"verdict,omitempty"`
	DeadlineMS *int64   `json:"deadline_ms,omitempty"`
	Error      string   `json:"error,omitempty"`
}

// NewEvent makes the JSON form of ev.
func NewEvent(ev *reclaim.Event) Event {
	j := Event{Schema: Schema, Event: string(ev.Kind), At: stamp(ev.At), Step: &ev.Step, Signal: ev.Signal}
	switch ev.Kind {
	case reclaim.EventSignal, reclaim.EventExit, reclaim.EventDraining, reclaim.EventStale, reclaim.EventSurvived,
		reclaim.EventCut, reclaim.EventRestored, reclaim.EventWatch, reclaim.EventRespawn:
		h := newHolder(ev.Holder)
		j.Holder = &h
	case reclaim.EventDestroyed, reclaim.EventShutdown:
		j.Count = &ev.Count
	case reclaim.EventProbe, reclaim.EventBindable, reclaim.EventTimeout:
		ok := ev.Kind == reclaim.EventBindable || ev.Kind == reclaim.EventProbe && ev.Probe.Bindable()
		j.Bindable = &ok
	}
	if ev.Took > 0 {
		j.TookMS = millis(ev.Took)
	}
	if ev.Verdict != nil {
		v := NewVerdict(ev.Verdict)
		j.Verdict = &v
	}
	if !ev.Deadline.IsZero() {
		j.DeadlineMS = millis(ev.Deadline.Sub(ev.At))
	}
	if ev.Err != nil {
		j.Error = ev.Err.Error()
	}
	return j
}

// Event writes what happened as one sentence, with the time at its end.
func (t *Text) Event(ev *reclaim.Event) error {
	if s := t.event(ev); s != "" {
		t.line("%s. %s", s, clock(ev.At))
	}
	return t.err
}

func (t *Text) event(ev *reclaim.Event) string {
	who := t.Name(ev.Holder)
	switch ev.Kind {
	case reclaim.EventSignal:
		return fmt.Sprintf("%s sent to %s", ev.Signal, who)
	case reclaim.EventExit:
		if ev.Took == 0 {
			return "already gone: " + who
		}
		return fmt.Sprintf("exited: %s, after %s", who, duration(ev.Took))
	case reclaim.EventDraining:
		return fmt.Sprintf("%s no longer has the port and may still be finishing its work: it is not killed", who)
	case reclaim.EventStale:
		return fmt.Sprintf("%d is another program now; nothing was signalled", ev.Holder.ID.PID)
	case reclaim.EventSurvived:
		return fmt.Sprintf("still alive: %s", who)
	case reclaim.EventDestroyed:
		return "destroyed " + plural(ev.Count, "socket", "sockets")
	case reclaim.EventShutdown:
		if ev.Err != nil {
			return "the listener cannot be shut down first, so the port is free when its process has ended: " + t.failure(ev.Err)
		}
		return "shut down: " + plural(ev.Count, "listener", "listeners")
	case reclaim.EventRestored:
		if ev.Err != nil {
			return fmt.Sprintf("%s shares the listener and no longer listens: %s", who, t.failure(ev.Err))
		}
		return fmt.Sprintf("%s shares the listener, which listens again", who)
	case reclaim.EventCut:
		return "destroyed the connection of " + who
	case reclaim.EventWatch:
		return fmt.Sprintf("watching for %s whether %s is started again", duration(ev.Deadline.Sub(ev.At)), who)
	case reclaim.EventRespawn:
		if ev.Took == 0 {
			return "started again: " + who
		}
		return fmt.Sprintf("started again: %s, after %s", who, duration(ev.Took))
	case reclaim.EventProbe:
		if ev.Probe.Bindable() {
			return "" // EventBindable says it.
		}
		return "refused: " + t.refusal(ev.Verdict, ev.Probe.Err)
	case reclaim.EventBindable:
		return fmt.Sprintf("%s can be bound", ev.Probe.Spec)
	case reclaim.EventTimeout:
		return "timed out: " + t.refusal(ev.Verdict, ev.Err)
	case reclaim.EventError:
		return "stopped: " + t.failure(ev.Err)
	case reclaim.EventCancelled:
		return "cancelled; what was done stays done"
	}
	return t.Clean(string(ev.Kind))
}

// refusal says why in one sentence, as far as it is known.
func (t *Text) refusal(v *netstate.Verdict, err error) string {
	if v != nil && v.Summary != "" {
		return trimPeriod(t.Clean(v.Summary))
	}
	return t.failure(err)
}

func (t *Text) failure(err error) string {
	if err == nil {
		return "the reason is not known"
	}
	return trimPeriod(t.Clean(err.Error()))
}
