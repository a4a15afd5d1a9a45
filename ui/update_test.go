package ui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/netstate"
	"berth/netstate/netns"
	"berth/reclaim"
)

// wanted counts the effects of one kind that the model has asked for.
func wanted[E effect](st *stage) int {
	n := 0
	for _, e := range st.done {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

// free is the machine without the socket that keeps the gateway's port
// refused for some time after its holder has gone.
func free() *script {
	s := machine()
	s.sockets = slices.DeleteFunc(s.sockets, func(k scriptSocket) bool {
		return k.Local.Port() == netstate.DefaultPort && k.ReuseAddr == netstate.No
	})
	return s
}

func start(t *testing.T) *stage {
	t.Helper()
	st := newStage(free(), opts(), 100, 30)
	t.Cleanup(st.close)
	return st
}

func expect(t *testing.T, st *stage, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !st.sees(text) {
			t.Errorf("the screen does not show %q:\n%s", text, plain(st.view()))
		}
	}
}

func TestForceRestart(t *testing.T) {
	st := start(t)
	st.press("R")
	st.advance(grace)
	expect(t, st, "Free 18789 and start the gateway?", "SIGTERM to node 4211", "3  start", "[ Cancel ]")
	st.press("y")
	st.advance(10 * time.Second)
	expect(t, st, "✓ done in", "pid 5377 listens", "TIME-WAIT")
	if p, r, l := wanted[effectPlan](st), wanted[effectReclaim](st), wanted[effectLaunch](st); p != 1 || r != 1 || l != 1 {
		t.Errorf("%d plans, %d runs, %d launches; want one of each", p, r, l)
	}
	if len(st.script.plans) != 1 || !st.script.plans[0].Restart {
		t.Errorf("the plan that was asked for: %+v", st.script.plans)
	}
}

// TestRestartOfOurOwn restarts a gateway that this berth started itself: the
// new one begins only after the old launch has ended, since the engine
// watches one at a time.
func TestRestartOfOurOwn(t *testing.T) {
	s := machine()
	s.sockets = nil
	st := newStage(s, opts(), 100, 30)
	t.Cleanup(st.close)
	st.press("L")
	st.advance(3 * time.Second)
	first := st.m.gateway.pid
	for n := 2; n <= 4; n++ {
		st.press("R")
		st.advance(grace)
		st.press("y")
		st.advance(4 * time.Second)
		if st.m.gateway.state != gatewayListening || st.m.gateway.pid != first+n-1 || !st.m.gateway.alive {
			t.Fatalf("restart %d: state %d, pid %d:\n%s", n-1, st.m.gateway.state, st.m.gateway.pid, plain(st.view()))
		}
		expect(t, st, "done in")
	}
	if n := wanted[effectLaunch](st); n != 4 {
		t.Errorf("%d launches, want 4", n)
	}
	if !strings.Contains(st.m.Farewell(), fmt.Sprintf("keeps running: pid %d", first+3)) {
		t.Errorf("farewell %q", st.m.Farewell())
	}
}

func TestEnterCancels(t *testing.T) {
	for _, keys := range [][]string{{"enter"}, {"n"}, {"esc"}, {"tab", "tab", "enter"}, {" ", "enter"}} {
		st := start(t)
		st.press("R")
		st.advance(grace)
		st.press(keys...)
		st.advance(time.Second)
		if st.m.dialog != nil || wanted[effectReclaim](st) != 0 || st.m.page != onPorts {
			t.Errorf("%q did not cancel", keys)
		}
	}
	st := start(t)
	st.press("R")
	st.advance(grace)
	st.press("tab", "enter")
	if wanted[effectReclaim](st) != 1 {
		t.Error("enter on the other button did nothing")
	}
}

// TestGrace: a key that was typed for the page under a dialog must not answer
// the dialog.
func TestGrace(t *testing.T) {
	st := start(t)
	st.press("R", "y")
	st.advance(grace - time.Millisecond)
	st.press("y", "tab", "enter", "n")
	if wanted[effectReclaim](st) != 0 {
		t.Fatal("a key in the first 150 ms answered the dialog")
	}
	if st.m.dialog == nil {
		t.Fatal("a key in the first 150 ms closed the dialog")
	}
	st.advance(time.Millisecond)
	st.press("y")
	if wanted[effectReclaim](st) != 1 {
		t.Error("y after the grace did nothing")
	}
}

// TestTypedTogether: what arrives in one read is one message of several
// runes; a paste is text and never keys.
func TestTypedTogether(t *testing.T) {
	st := start(t)
	st.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("jjk")})
	if got := st.m.ports.scroll.at; got != 1 {
		t.Errorf("jjk moved the cursor to row %d, want 1", got)
	}
	st.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("Ry"), Paste: true})
	if st.m.dialog != nil {
		t.Error("a paste opened a dialog")
	}
	st.press("/")
	st.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("ssh"), Paste: true})
	if st.m.ports.filter != "ssh" {
		t.Errorf("a paste into the filter gave %q", st.m.ports.filter)
	}
}

func TestTypedConfirmation(t *testing.T) {
	st := newStage(postgresAsRoot(), opts(), 100, 30)
	t.Cleanup(st.close)
	st.choose(5432)
	st.press("r")
	st.advance(grace)
	expect(t, st, "Type postgres to go on")
	st.press("y", "tab", "enter") // "y" is a letter here, and the button is not there yet
	if wanted[effectReclaim](st) != 0 || st.m.dialog != nil {
		t.Fatal("a plan that wants a name began without it, or enter did not cancel")
	}
	st.press("r")
	st.advance(grace)
	for _, r := range "postgrex" {
		st.press(string(r))
	}
	st.press("backspace", "s")
	if !st.m.dialog.yes {
		t.Fatal("the right name did not move the focus to the button")
	}
	st.press("enter")
	if wanted[effectReclaim](st) != 1 {
		t.Error("the typed name did not allow the plan")
	}
}

func TestInfeasible(t *testing.T) {
	st := start(t)
	st.choose(5432) // another user's
	st.press("r")
	st.advance(grace)
	expect(t, st, "needs root", "[ Close ]")
	st.press("y")
	if wanted[effectReclaim](st) != 0 {
		t.Error("an infeasible plan began")
	}
}

func TestPlanError(t *testing.T) {
	st := start(t)
	st.m.dialog = &dialog{kind: dialogFree, id: 99, req: PlanRequest{Spec: st.script.Spec(netns.Namespace{}, 22)}}
	st.send(planMsg{id: 99, err: errors.New("no table")})
	st.advance(grace)
	expect(t, st, "no plan could be made: no table", "[ Close ]")
	st.send(planMsg{id: 7}) // of a dialog that is long gone
	expect(t, st, "no table")
	st.press("y")
	if wanted[effectReclaim](st) != 0 {
		t.Error("y ran a plan that does not exist")
	}
}

func TestStopWaiting(t *testing.T) {
	st := newStage(machine(), opts(), 100, 30)
	t.Cleanup(st.close)
	st.advance(34 * time.Second)
	st.press("R")
	st.advance(grace)
	st.press("y")
	st.advance(1500 * time.Millisecond)
	if !st.m.job.freeing() {
		t.Fatal("the run has ended already")
	}
	st.press("2") // the page of a run that frees the port stays open
	expect(t, st, "esc stops waiting")
	st.press("esc")
	st.advance(0)
	expect(t, st, "stopped by you", "1 signal was sent, 1 process is gone")
	if wanted[effectCancel](st) != 1 || wanted[effectLaunch](st) != 0 {
		t.Error("esc did not cancel, or the gateway was started all the same")
	}
	st.press("esc")
	if st.m.page != onPort || st.m.port.port != netstate.DefaultPort {
		t.Error("esc after the end did not go to the port's page")
	}
}

// TestEventsAreKept: every event of a run reaches the screen's story, in
// order.
func TestEventsAreKept(t *testing.T) {
	j := newJob(1, reclaim.Plan{Steps: []reclaim.Step{
		{Kind: reclaim.StepTerm, Holder: netstate.Holder{ID: netstate.ProcessID{PID: 7}}, AtMost: 3 * time.Second},
		{Kind: reclaim.StepTerm, Holder: netstate.Holder{ID: netstate.ProcessID{PID: 8}}, AtMost: 3 * time.Second},
		{Kind: reclaim.StepKill, Holder: netstate.Holder{ID: netstate.ProcessID{PID: 7}}, AtMost: 2 * time.Second},
		{Kind: reclaim.StepKill, Holder: netstate.Holder{ID: netstate.ProcessID{PID: 8}}, AtMost: 2 * time.Second},
		{Kind: reclaim.StepDestroy}, {Kind: reclaim.StepWait, AtMost: 3 * time.Second},
	}}, false)
	at := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	h := func(i int) netstate.Holder { return j.plan.Steps[i].Holder }
	states := func() (s string) {
		for i := range j.steps {
			s += []string{".", ">", "+", "-", "x"}[j.steps[i].state]
		}
		return s
	}
	for _, step := range []struct {
		event reclaim.Event
		want  string
	}{
		{reclaim.Event{Kind: reclaim.EventSignal, Step: 0, Holder: h(0), Signal: "SIGTERM"}, ">....."},
		{reclaim.Event{Kind: reclaim.EventSignal, Step: 1, Holder: h(1), Signal: "SIGTERM"}, ">>...."},
		{reclaim.Event{Kind: reclaim.EventExit, Step: 0, Holder: h(0), Took: time.Second}, "+>-..."},
		{reclaim.Event{Kind: reclaim.EventSignal, Step: 3, Holder: h(1), Signal: "SIGKILL"}, "++->.."},
		{reclaim.Event{Kind: reclaim.EventExit, Step: 3, Holder: h(1), Took: time.Second}, "++-+.."},
		{reclaim.Event{Kind: reclaim.EventProbe, Step: 5, Probe: netstate.Probe{Err: errors.New("no")}}, "++-+.>"},
		{reclaim.Event{Kind: reclaim.EventProbe, Step: 5}, "++-+.>"},
		{reclaim.Event{Kind: reclaim.EventBindable, Step: 5, Took: time.Second}, "++-+-+"},
	} {
		at = at.Add(time.Second)
		step.event.At = at
		j.apply(step.event)
		if got := states(); got != step.want {
			t.Errorf("after %s of step %d: %s, want %s", step.event.Kind, step.event.Step, got, step.want)
		}
	}
	if j.probed != 2 || !slices.Equal(j.probes, []bool{false, true}) || j.freed != at {
		t.Errorf("probes %v of %d, freed at %v", j.probes, j.probed, j.freed)
	}
	if !strings.Contains(j.done(), "3 signals were sent, 2 processes are gone") {
		t.Errorf("done says %q", j.done())
	}
	for _, kind := range []reclaim.EventKind{reclaim.EventStale, reclaim.EventSurvived, reclaim.EventTimeout, reclaim.EventError} {
		j.apply(reclaim.Event{At: at, Kind: kind, Step: 5})
		if j.steps[5].state != stepFailed {
			t.Errorf("%s does not fail its step", kind)
		}
		j.steps[5].state = stepRunning
	}
	if len(j.events) != 12 {
		t.Errorf("%d events in the story, want 12", len(j.events))
	}
}

// TestSurvivedRun is a run whose target dies only of SIGKILL, on the screen.
func TestSurvivedRun(t *testing.T) {
	st := start(t)
	plan := mustPlan(st)
	st.m.begin(plan, false, 0)
	id := st.m.job.id
	h := plan.Steps[0].Holder
	send := func(after time.Duration, e reclaim.Event) {
		e.At = st.now.Add(after)
		st.m.handle(runMsg{id, e})
	}
	send(0, reclaim.Event{Kind: reclaim.EventSignal, Step: 0, Holder: h, Signal: "SIGTERM"})
	expect(t, st, "3.0 s left of 3.0 s, then SIGKILL")
	send(3*time.Second, reclaim.Event{Kind: reclaim.EventSignal, Step: 1, Holder: h, Signal: "SIGKILL"})
	expect(t, st, "still alive after 3.0 s", "2.0 s left of 2.0 s")
	send(3*time.Second, reclaim.Event{Kind: reclaim.EventSurvived, Step: 1, Holder: h})
	st.m.handle(runDoneMsg{id, fmt.Errorf("node 4211 is stuck: %w", reclaim.ErrSurvived)})
	expect(t, st, "✗ failed after", "node 4211 is stuck")
	st.m.handle(runMsg{id - 1, reclaim.Event{Kind: reclaim.EventBindable}}) // of an older run
	if st.m.job.phase != phaseFailed {
		t.Error("an event of an older run changed this one")
	}
}

func TestKillOneHolder(t *testing.T) {
	st := start(t)
	st.press("x")
	st.advance(grace)
	expect(t, st, "Stop node 4211 on 18789?")
	if got := st.script.plans[0].Only; got != 4211 {
		t.Errorf("the plan is about pid %d, want 4211", got)
	}
	st.press("esc")
	st.choose(8080)
	st.press("x")
	expect(t, st, "no process that you may see holds port 8080")

	many := stateCases["several-holders"](t)
	t.Cleanup(many.close)
	expect(t, many, "choose one, then x")
	many.press("x")
	many.advance(grace)
	expect(t, many, "Stop worker 4300 on 18789?") // the cursor was moved down once
}

func TestQuit(t *testing.T) {
	st := start(t)
	st.press("q")
	if !st.ended {
		t.Error("q did not quit")
	}

	running := func() *stage {
		st := mono("reclaim-running", 80, 24)
		t.Cleanup(st.close)
		return st
	}
	st = running()
	st.press("q")
	st.advance(grace)
	if st.ended {
		t.Fatal("q did not ask while a run goes")
	}
	expect(t, st, "Quit now?", "1 process is gone")
	st.press("enter")
	if st.ended || st.m.dialog != nil {
		t.Error("enter did not stay")
	}
	st.press("q")
	st.advance(grace)
	st.press("y")
	if !st.ended || !strings.Contains(st.m.Farewell(), "stopped waiting for 127.0.0.1:18789: 1 signal was sent") {
		t.Errorf("y did not quit, or its farewell is %q", st.m.Farewell())
	}

	st = running()
	st.press("ctrl+c")
	if st.ended {
		t.Fatal("the first ctrl+c did not ask")
	}
	st.press("ctrl+c") // within the grace: it is not an answer but a demand
	if !st.ended {
		t.Error("the second ctrl+c did not quit at once")
	}
	st = start(t)
	st.press("/", "q", "ctrl+c")
	if !st.ended {
		t.Error("ctrl+c did not quit while the filter was open")
	}
}

func TestFarewell(t *testing.T) {
	st := mono("gateway", 80, 24)
	t.Cleanup(st.close)
	if got, want := st.m.Farewell(), "the gateway keeps running: pid 5377 on 127.0.0.1:18789, log ~/.local/state/berth/gateway-18789.log"; got != want {
		t.Errorf("farewell %q, want %q", got, want)
	}
	st.m.gateway.info.Demo = true
	if got := st.m.Farewell(); !strings.Contains(got, "ended with berth") {
		t.Errorf("farewell of the demo: %q", got)
	}
	if got := start(t).m.Farewell(); got != "" {
		t.Errorf("farewell without a gateway: %q", got)
	}
}

func TestStopGateway(t *testing.T) {
	st := start(t)
	st.press("2", "x")
	expect(t, st, "no gateway that this berth started")
	st = mono("gateway", 80, 24)
	t.Cleanup(st.close)
	st.press("x")
	st.advance(grace)
	expect(t, st, "Stop the gateway?")
	st.press("y")
	st.advance(2 * time.Second)
	if st.script.stops != 1 || st.m.gateway.state != gatewayStopped {
		t.Errorf("%d stops, state %d", st.script.stops, st.m.gateway.state)
	}
	st.send(stoppedMsg{errors.New("no right")})
	expect(t, st, "could not be stopped: no right")
}

func TestLaunchAtStart(t *testing.T) {
	o := opts()
	o.Launch = true
	s := machine()
	st := newStage(s, o, 100, 30)
	t.Cleanup(st.close)
	if s.launches != 0 {
		t.Error("the gateway was started although its port is held")
	}
	expect(t, st, "the gateway was not started")

	s = machine()
	s.sockets = nil
	st = newStage(s, o, 100, 30)
	t.Cleanup(st.close)
	st.advance(5 * time.Second)
	if s.launches != 1 || st.m.gateway.state != gatewayListening {
		t.Errorf("%d launches, state %d", s.launches, st.m.gateway.state)
	}
	st.press("L")
	expect(t, st, "runs already")
}
