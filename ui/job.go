package ui

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/reclaim"
)

// stepState is how far a step of a plan is.
type stepState uint8

const (
	stepPending stepState = iota
	stepRunning
	stepDone
	stepSkipped // it turned out not to be needed
	stepFailed
)

type jobStep struct {
	reclaim.Step
	state stepState
	since time.Time // when it began
	note  string    // what came of it

	destroyed int // sockets, so far
}

// jobEvent is one line of what happened.
type jobEvent struct {
	at   time.Time
	kind string
	text string
	bad  bool
}

// phase is which part of a job is going on.
type phase uint8

const (
	phaseFree   phase = iota // the plan runs
	phaseLaunch              // the gateway is being started
	phaseDone
	phaseFailed
	phaseStopped // the user stopped waiting
)

// job is one confirmed plan on its way: first the port is freed, then, for a
// restart, the gateway is started. It only records what the engine reports.
type job struct {
	id      int
	plan    reclaim.Plan
	restart bool
	phase   phase
	// stopping is set between the user's esc and the engine's answer.
	stopping bool

	steps          []jobStep
	events         []jobEvent
	started, ended time.Time // started is the time of the first event

	probes   []bool    // the newest binds, oldest first
	probed   int       // how many there were
	deadline time.Time // of the wait that goes on
	refusal  *netstate.Verdict
	freed    time.Time // when a bind succeeded
	err      error
	signals  int  // how many were sent
	silent   bool // failed, but the gateway runs and may still become ready

	over *takeover // nil if the port is freed, not handed over

	live portPage // the port meanwhile
}

// keepProbes is how many marks of probes are kept for the screen.
const keepProbes = 64

func newJob(id int, plan reclaim.Plan, restart bool) *job {
	j := &job{id: id, plan: plan, restart: restart}
	for _, s := range plan.Steps {
		j.steps = append(j.steps, jobStep{Step: s})
	}
	return j
}

func (j *job) place() place { return placeOf(j.plan.Spec) }

// freeing reports whether the plan is being carried out.
func (j *job) freeing() bool { return j != nil && j.phase == phaseFree }

// active reports whether the job is still getting somewhere.
func (j *job) active() bool {
	return j != nil && (j.phase == phaseFree || j.phase == phaseLaunch)
}

// waits reports whether TIME-WAIT sockets drain on the job's page.
func (j *job) waits(m *Model) bool { return j != nil && j.live.countsDown(m.at()) }

// build takes the port's sockets from the observation that is shown.
func (j *job) build(m *Model) {
	if j != nil {
		j.live.place = j.place()
		j.live.build(m)
	}
}

func (j *job) log(at time.Time, kind string, bad bool, text string) {
	if j.started.IsZero() {
		j.started = at
	}
	j.events = append(j.events, jobEvent{at: at, kind: kind, text: text, bad: bad})
}

// wait returns the step that probes.
func (j *job) wait() *jobStep {
	for i := range j.steps {
		if j.steps[i].Kind == reclaim.StepWait {
			return &j.steps[i]
		}
	}
	return nil
}

// step returns the step of an event, or nil if there is no such step.
func (j *job) step(e reclaim.Event) *jobStep {
	if e.Step < 0 || e.Step >= len(j.steps) {
		return nil
	}
	return &j.steps[e.Step]
}

// apply takes one event of the run into the steps and the story.
func (j *job) apply(e reclaim.Event) {
	s := j.step(e)
	set := func(st stepState, note string) {
		if s == nil {
			return
		}
		if st == stepRunning {
			s.since = e.At
		}
		s.state, s.note = st, note
	}
	switch e.Kind {
	case reclaim.EventSignal:
		j.signals++
		for i := range j.steps { // An earlier signal to the same process was not enough.
			if o := &j.steps[i]; o.state == stepRunning && o.Holder.ID == e.Holder.ID {
				o.state, o.note = stepDone, "still alive after "+short(e.At.Sub(o.since))
			}
		}
		set(stepRunning, "sent "+precise(e.At))
		j.log(e.At, "signal", false, e.Signal+" to "+who(e.Holder))
	case reclaim.EventExit:
		j.exited(e)
	case reclaim.EventDraining:
		set(stepDone, "let the port go")
		j.log(e.At, "draining", false, who(e.Holder)+" may still be finishing its work")
	case reclaim.EventStale:
		set(stepFailed, "another program now")
		j.log(e.At, "stale", true, fmt.Sprintf("%d is now another program; nothing was signalled", e.Holder.ID.PID))
	case reclaim.EventSurvived:
		set(stepFailed, "still alive")
		j.log(e.At, "survived", true, who(e.Holder)+" did not end")
	case reclaim.EventDestroyed:
		if s != nil {
			s.destroyed += e.Count // by rounds
			set(stepDone, count(s.destroyed, "socket", "sockets")+" destroyed")
		}
		j.log(e.At, "destroy", false, count(e.Count, "socket", "sockets")+" destroyed")
	case reclaim.EventCut:
		set(stepDone, "destroyed")
		j.log(e.At, "destroy", false, "the connection of "+who(e.Holder)+" destroyed")
	case reclaim.EventShutdown:
		if e.Err != nil {
			set(stepSkipped, "not possible")
			j.log(e.At, "shutdown", true, "waiting for the exit instead: "+e.Err.Error())
			break
		}
		set(stepDone, "")
		j.log(e.At, "shutdown", false, count(e.Count, "listener", "listeners")+" shut down")
	case reclaim.EventRestored:
		j.log(e.At, "shared", true, who(e.Holder)+" shares the listener")
	case reclaim.EventWatch:
		set(stepRunning, "")
		j.log(e.At, "watch", false, "whether "+who(e.Holder)+" is started again")
	case reclaim.EventRespawn:
		j.log(e.At, "respawn", true, who(e.Holder)+" was started again")
	case reclaim.EventProbe:
		j.probe(e)
	case reclaim.EventBindable:
		j.freed = e.At
		if w := j.wait(); w != nil {
			w.state, w.note = stepDone, "after "+short(e.Took)+", "+count(j.probed, "probe", "probes")
		}
		for i := range j.steps {
			switch s := &j.steps[i]; {
			case s.Kind == reclaim.StepWatch: // it begins only now
			case s.state == stepPending:
				s.state, s.note = stepSkipped, "not needed"
			case s.state == stepRunning:
				s.state, s.note = stepDone, "still ending" // its listener was shut down
			}
		}
		j.log(e.At, "free", false, j.plan.Spec.String()+" can be bound")
	case reclaim.EventTimeout:
		set(stepFailed, "still refused after "+short(e.Took))
		j.refusal = orElse(e.Verdict, j.refusal)
		j.log(e.At, "timeout", true, "still refused after "+short(e.Took))
	case reclaim.EventError:
		set(stepFailed, "")
		j.refusal = orElse(e.Verdict, j.refusal)
		text := "failed"
		if e.Err != nil {
			text = e.Err.Error()
		}
		j.log(e.At, "error", true, text)
	case reclaim.EventCancelled:
		j.log(e.At, "stopped", true, "you stopped waiting; "+j.done())
	}
}

// exited closes every step of a holder that is gone: a SIGKILL that was not
// needed is not missing.
func (j *job) exited(e reclaim.Event) {
	note := "gone already"
	if e.Took > 0 {
		note = "exited after " + short(e.Took)
	}
	for i := range j.steps {
		s := &j.steps[i]
		if s.Holder.ID.PID != e.Holder.ID.PID || s.Kind != reclaim.StepTerm && s.Kind != reclaim.StepKill {
			continue
		}
		switch {
		case s.state == stepRunning || i == e.Step:
			s.state, s.note = stepDone, note
		case s.state == stepPending:
			s.state, s.note = stepSkipped, "not needed"
		}
	}
	j.log(e.At, "exit", false, who(e.Holder)+" "+note)
}

func (j *job) probe(e reclaim.Event) {
	ok := e.Probe.Bindable()
	j.probed++
	j.probes = append(j.probes, ok)
	if n := len(j.probes) - keepProbes; n > 0 {
		j.probes = j.probes[n:]
	}
	j.deadline = e.Deadline
	if w := j.wait(); w != nil && w.state != stepDone {
		if w.state == stepPending {
			w.since = e.At
		}
		w.state = stepRunning
	}
	if ok {
		j.log(e.At, "probe", false, j.plan.Spec.String()+" ok")
		return
	}
	text := j.plan.Spec.String() + " refused"
	if v := e.Verdict; v != nil {
		j.refusal = v
		if v.Errno != "" {
			text = j.plan.Spec.String() + " " + v.Errno
		}
		if len(v.Blockers) > 0 {
			text += " (" + blockerText(&v.Blockers[0]) + ")"
		}
	} else if e.Probe.Err != nil {
		text = j.plan.Spec.String() + " " + e.Probe.Err.Error()
	}
	j.log(e.At, "probe", true, text)
}

// blockerText names a blocker shortly.
func blockerText(b *netstate.Blocker) string {
	s := &b.Socket
	text := s.State.String()
	if s.Remote.IsValid() {
		text += " " + s.Local.String() + " → " + s.Remote.String()
	} else {
		text += " " + s.Local.String()
	}
	if len(b.Holders) > 0 {
		text += ", " + who(b.Holders[0])
	}
	return text
}

func orElse(v, other *netstate.Verdict) *netstate.Verdict {
	if v != nil {
		return v
	}
	return other
}

// finish ends the job.
func (j *job) finish(p phase, at time.Time, err error) {
	j.phase, j.ended, j.err = p, at, err
	if j.started.IsZero() {
		j.started = at
	}
	for i := range j.steps {
		if s := &j.steps[i]; p != phaseDone && s.state == stepRunning {
			s.state = stepFailed
			if p == phaseStopped {
				s.note = "stopped waiting"
			}
		}
	}
}

// launchEvent follows the gateway that the job started.
func (j *job) launchEvent(e gatewaylaunch.Event) {
	if j.handing() && j.overLaunch(e) {
		return
	}
	if j == nil || j.phase != phaseLaunch && !j.silent {
		return
	}
	switch e.Kind {
	case gatewaylaunch.EventReady:
		j.silent = false
		j.log(e.At, "ready", false, fmt.Sprintf("pid %d listens on %s", e.PID, readyAt(e, j.plan.Spec)))
		j.finish(phaseDone, e.At, nil)
	case gatewaylaunch.EventNotReady:
		j.silent = true
		err := e.Err
		if err == nil {
			err = errors.New("nothing listens yet")
		}
		j.log(e.At, "not ready", true, err.Error())
		j.finish(phaseFailed, e.At, err)
	case gatewaylaunch.EventAttempt:
		j.log(e.At, "attempt", false, strings.TrimPrefix(attemptText(e.Attempt, e.Of), "attempt "))
	case gatewaylaunch.EventHeld:
		j.log(e.At, "held", true, "the port is taken again: next attempt within "+short(e.Wait))
	case gatewaylaunch.EventListening:
		j.log(e.At, "listens", false, fmt.Sprintf("pid %d listens on %s", e.PID, readyAt(e, j.plan.Spec)))
	case gatewaylaunch.EventExited:
		j.log(e.At, "exit", true, "the gateway "+exitText(e.Exit)+" after "+short(e.Took))
	case gatewaylaunch.EventRetry:
		j.log(e.At, "retry", false, "within "+short(e.Wait))
	}
}

// launchEnded: the launch is over, and if it never became ready it failed.
func (j *job) launchEnded(at time.Time, err error) {
	if j.handing() && j.stopping {
		j.finish(phaseStopped, at, err)
		return
	}
	if !j.handing() && (j == nil || j.phase != phaseLaunch) {
		return
	}
	if err == nil {
		err = errors.New("the gateway ended before it listened")
	}
	j.finish(phaseFailed, at, err)
}

// done says what was done already, for one who stops half-way.
func (j *job) done() string {
	killed, gone := 0, 0
	for _, e := range j.events {
		switch e.kind {
		case "exit":
			gone++
		case "destroy":
			killed++
		}
	}
	switch {
	case j.signals == 0 && killed == 0:
		return "nothing was signalled"
	case gone > 0:
		return fmt.Sprintf("%s, %s; that stays so", count(j.signals, "signal was sent", "signals were sent"), count(gone, "process is gone", "processes are gone"))
	case killed > 0:
		return "sockets were destroyed; that stays so"
	}
	return fmt.Sprintf("%s and cannot be taken back", count(j.signals, "signal was sent", "signals were sent"))
}

// since returns when the job began; a key carries no time, so until its first
// event that is now.
func (j *job) since(now time.Time) time.Time {
	if j.started.IsZero() {
		return now
	}
	return j.started
}

// brokenOff is done for one who quits.
func (j *job) brokenOff() string {
	if j.handing() {
		return fmt.Sprintf("broke off the hand-over of %s: %s", j.plan.Spec, j.done())
	}
	return fmt.Sprintf("stopped waiting for %s: %s", j.plan.Spec, j.done())
}

// ran takes an event of the run that is going on.
func (m *Model) ran(msg runMsg) {
	j := m.job
	if j == nil || msg.id != j.id {
		return
	}
	e := msg.event
	m.passed(e.At)
	j.apply(e)
	switch e.Kind {
	case reclaim.EventProbe:
		m.past.probed(j.place().id(), e.At, e.Probe.Bindable())
	case reclaim.EventBindable:
		m.past.probed(j.place().id(), e.At, true)
	}
}

// runEnded goes on to the launch, or ends the job.
func (m *Model) runEnded(msg runDoneMsg) {
	j := m.job
	if j == nil || msg.id != j.id {
		return
	}
	m.emit(effectRefresh{})
	switch {
	case j.stopping && msg.err != nil:
		j.finish(phaseStopped, m.now, msg.err)
	case msg.err != nil:
		j.finish(phaseFailed, m.now, msg.err)
	case j.restart && !j.stopping:
		j.watched()
		j.phase = phaseLaunch
		m.launch()
	default:
		j.watched()
		j.finish(phaseDone, m.now, nil)
	}
}

// watched closes the step that has looked for a respawn and has seen none.
func (j *job) watched() {
	for i := range j.steps {
		if s := &j.steps[i]; s.Kind == reclaim.StepWatch && s.state == stepRunning {
			s.state, s.note = stepDone, "it has not come back"
		}
	}
}

// begin carries out a plan that was confirmed in the dialog asked.
func (m *Model) begin(plan reclaim.Plan, restart bool, asked int) {
	m.job = newJob(m.newID(), plan, restart)
	m.page = onRun
	m.resume()
	if restart && (plan.Empty() || len(plan.Steps) == 0) {
		m.job.steps = nil // nothing to free
		m.job.phase = phaseLaunch
		m.emit(effectDrop{asked})
		m.launch()
		return
	}
	m.emit(effectReclaim{m.job.id, asked})
}
