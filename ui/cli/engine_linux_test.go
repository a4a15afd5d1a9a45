package cli

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/netstate/lab"
	"berth/netstate/netns"
	"berth/reclaim"
	"berth/ui"
)

// startTestEngine starts an engine whose gateway is an act of this binary.
func startTestEngine(t *testing.T, g gateway, demo bool) *engine {
	t.Helper()
	lab.NeedNamespace(t)
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	e := startEngine(t.Context(), &engine{
		sys: sys, gateway: g, demo: demo, assume: g.spec,
		log: filepath.Join(t.TempDir(), "state", "berth", "gateway.log"),
		launch: launch{
			retry:  gatewaylaunch.Retry{Retries: 1, Interval: 10 * time.Millisecond},
			ladder: ladder{grace: 5 * time.Second}, readyTimeout: 20 * time.Second,
		},
	})
	t.Cleanup(func() {
		e.close()
		if err := sys.Close(); err != nil {
			t.Error(err)
		}
		if _, more := <-e.Observations(); more {
			if _, more := <-e.Observations(); more {
				t.Error("observations go on after the end")
			}
		}
	})
	return e
}

func loopback(port uint16) netstate.BindSpec {
	return netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
}

func actGateway(port uint16) gateway {
	spec := loopback(port)
	return gateway{spec: spec, command: gatewaylaunch.Command{Argv: serving(spec.String(), 0), Env: os.Environ()}}
}

// observe waits for an observation with which ok is content.
func observe(t *testing.T, e *engine, what string, ok func(ui.Observation) bool) ui.Observation {
	t.Helper()
	timeout := time.After(20 * time.Second)
	var last ui.Observation
	for {
		select {
		case last = <-e.Observations():
			if last.Err != nil {
				t.Fatal(last.Err)
			}
			if ok(last) {
				return last
			}
		case <-timeout:
			t.Fatalf("no observation in which %s; the last one is %+v", what, last)
		}
	}
}

func TestEngineObserves(t *testing.T) {
	port1, port2 := freshPort(), freshPort()
	e := startTestEngine(t, actGateway(port1), false)
	scene(t, "LISTEN", "127.0.0.1:"+portText(port2), lab.Options{})
	e.Refresh()
	obs := observe(t, e, "the listener is seen", func(o ui.Observation) bool { return o.Verdicts[port2].Counts[netstate.Listen] == 1 })
	if v := obs.Verdicts[port1]; !v.Bindable || v.Evidence != netstate.EvidenceRules {
		t.Errorf("the gateway's free port: %+v", v)
	}
	v := obs.Verdicts[port2]
	if v.Bindable || v.Reason != netstate.ReasonHeld || v.Evidence != netstate.EvidenceRules {
		t.Errorf("the held port: %+v", v)
	}
	if hs := obs.Owners.OfAll(obs.Snapshot.Port(port2)); len(hs) != 1 || hs[0].ID.PID != os.Getpid() {
		t.Errorf("its holders are %v", hs)
	}

	spec := e.Spec(netns.Namespace{}, port2)
	e.Focus(&spec)
	observe(t, e, "a bind was made", func(o ui.Observation) bool {
		v := o.Verdicts[port2]
		return v.Evidence == netstate.EvidenceBind && v.Errno == "EADDRINUSE"
	})
	e.Focus(nil)
	observe(t, e, "no bind was made", func(o ui.Observation) bool { return o.Verdicts[port2].Evidence == netstate.EvidenceRules })
}

// While a gateway starts, no probe of ours may take its address.
func TestEngineDoesNotProbeDuringALaunch(t *testing.T) {
	port := freshPort()
	e := startTestEngine(t, actGateway(port), false)
	spec := e.Spec(netns.Namespace{}, port)
	e.Focus(&spec)
	evidence := func(want netstate.Evidence) func(ui.Observation) bool {
		return func(o ui.Observation) bool { return o.Verdicts[port].Evidence == want }
	}
	observe(t, e, "a bind was made", evidence(netstate.EvidenceBind))
	w, err := e.begin(func() {}, false)
	if err != nil {
		t.Fatal(err)
	}
	e.Refresh()
	observe(t, e, "no bind was made", evidence(netstate.EvidenceRules))
	e.end(w)
	e.Refresh()
	observe(t, e, "a bind was made again", evidence(netstate.EvidenceBind))
}

// kinds collects events of a launch; a channel tells of each.
type kinds chan gatewaylaunch.Event

func (k kinds) take(ev gatewaylaunch.RestartEvent) {
	if ev.Launch != nil {
		k <- *ev.Launch
	}
}

func (k kinds) await(t *testing.T, kind gatewaylaunch.EventKind) gatewaylaunch.Event {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case ev := <-k:
			if ev.Kind == kind {
				return ev
			}
		case <-timeout:
			t.Fatalf("no event %q", kind)
		}
	}
}

// launchGateway starts the engine's gateway; the second channel carries what
// StartGateway returns.
func launchGateway(ctx context.Context, e *engine) (kinds, chan error) {
	events, result := make(kinds, 4096), make(chan error, 1)
	go func() { result <- e.StartGateway(ctx, events.take) }()
	return events, result
}

func TestEngineGateway(t *testing.T) {
	port := freshPort()
	e := startTestEngine(t, actGateway(port), false)
	if err := e.StopGateway(t.Context()); err != nil {
		t.Errorf("stopping a gateway that never ran: %v", err)
	}
	events, result := launchGateway(t.Context(), e)
	// Without standard input the act ends at once; that it served is enough.
	events.await(t, gatewaylaunch.EventExited)
	if err := <-result; err != nil {
		t.Error(err)
	}
	log, err := os.ReadFile(e.log)
	if err != nil || !bytes.Contains(log, []byte("serving\n")) {
		t.Errorf("the log is %q, %v", log, err)
	}
	info, err := os.Stat(e.log)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v, %v", info.Mode(), err)
	}
}

func testDemo(port uint16) gateway {
	return demoGateway(self, loopback(port), append(os.Environ(), actEnv+"=berth"))
}

// The path of the main job: the demo gateway serves with its clients, a
// restart cuts them off and leaves TIME-WAIT sockets, and it serves again.
func TestEngineRestartsTheDemoGateway(t *testing.T) {
	port := freshPort()
	e := startTestEngine(t, testDemo(port), true)
	events, result := launchGateway(t.Context(), e)
	first := events.await(t, gatewaylaunch.EventReady)
	if err := e.StartGateway(t.Context(), func(gatewaylaunch.RestartEvent) {}); !errors.Is(err, errRunning) {
		t.Errorf("a second launch: %v", err)
	}
	// The side that closes first keeps the TIME-WAIT, if it has taken and read
	// all that the other side sent: otherwise it resets the connection.
	observe(t, e, "all clients are connected, accepted and read", func(o ui.Observation) bool {
		for _, s := range o.Snapshot.Port(port) {
			if s.RecvQ > 0 {
				return false
			}
		}
		return o.Verdicts[port].Counts[netstate.Established] == manyVisitors
	})

	held, err := e.Plan(t.Context(), ui.PlanRequest{Spec: e.Spec(netns.Namespace{}, port), Restart: true})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	plan := held.Plan()
	if targets := plan.Targets(); !plan.Feasible || plan.Typed != "" || len(targets) != 1 || targets[0].ID.PID != first.PID {
		t.Fatalf("the plan to restart our own gateway is %+v", plan)
	}
	if err := held.Run(t.Context(), func(reclaim.Event) {}); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	events, result = launchGateway(t.Context(), e)
	if again := events.await(t, gatewaylaunch.EventReady); again.PID == first.PID {
		t.Errorf("pid %d serves before and after", again.PID)
	}
	obs := observe(t, e, "TIME-WAIT is left and the clients are back", func(o ui.Observation) bool {
		c := o.Verdicts[port].Counts
		return c[netstate.TimeWait] > 0 && c[netstate.Established] == manyVisitors
	})
	for _, s := range obs.Snapshot.Port(port) {
		if s.State == netstate.TimeWait && (s.Expires <= 0 || s.Expires > time.Minute) {
			t.Errorf("a TIME-WAIT socket has %v left", s.Expires)
		}
	}
	if err := e.StopGateway(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Errorf("a gateway that was stopped: %v", err)
	}
	if !netstate.TryBind(e.Spec(netns.Namespace{}, port)).Bindable() {
		t.Error("the port is not free after the stop")
	}
}

// A plan for one of two holders touches only that one, and does not wait for a
// port that the other still holds.
func TestEnginePlansForOneHolder(t *testing.T) {
	port1, port2 := freshPort(), freshPort()
	e := startTestEngine(t, actGateway(port1), false)
	holder := start(t, "hold", "127.0.0.1:"+portText(port2))
	holder.await(t, "holding")
	scene(t, "LISTEN", "127.0.0.2:"+portText(port2), lab.Options{})
	every := netstate.NewBindSpec(netip.IPv4Unspecified(), port2)

	held, err := e.Plan(t.Context(), ui.PlanRequest{Spec: every, Only: holder.Process.Pid})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	plan := held.Plan()
	if targets := plan.Targets(); !plan.Feasible || len(targets) != 1 || targets[0].ID.PID != holder.Process.Pid {
		t.Errorf("the plan is %+v", plan)
	}
	for _, s := range plan.Steps {
		if s.Kind == reclaim.StepWait {
			t.Error("the plan waits for a port that it does not free")
		}
	}
	if err := held.Run(t.Context(), func(reclaim.Event) {}); err != nil {
		t.Error(err)
	}
	if _, err := e.Plan(t.Context(), ui.PlanRequest{Spec: every, Only: holder.Process.Pid}); err == nil {
		t.Error("a plan for a process that holds nothing")
	}
}

// pidfds counts the descriptors of processes that this one has open.
func pidfds(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && strings.Contains(to, "pidfd") {
			n++
		}
	}
	return n
}

// What a plan shows is held by a descriptor while it is shown, and not longer.
func TestEngineHoldsWhatAPlanShows(t *testing.T) {
	port := freshPort()
	e := startTestEngine(t, actGateway(freshPort()), false)
	holder := start(t, "hold", "127.0.0.1:"+portText(port))
	holder.await(t, "holding")
	before := pidfds(t)
	for range 20 {
		held, err := e.Plan(t.Context(), ui.PlanRequest{Spec: loopback(port)})
		if err != nil {
			t.Fatal(err)
		}
		if got := pidfds(t) - before; got != 1 {
			t.Errorf("%d processes are held, want 1", got)
		}
		held.Close()
	}
	if got := pidfds(t); got != before {
		t.Errorf("%d descriptors of processes are open, and %d were", got, before)
	}
}

func TestLogPath(t *testing.T) {
	env := func(vars map[string]string) func(string) string {
		return func(name string) string { return vars[name] }
	}
	if got, err := statePath(env(map[string]string{"XDG_STATE_HOME": "/s"}), 80, ".log"); err != nil || got != "/s/berth/gateway-80.log" {
		t.Errorf("with XDG_STATE_HOME: %q, %v", got, err)
	}
	t.Setenv("HOME", "/h")
	if got, err := statePath(env(nil), 80, ".log"); err != nil || got != "/h/.local/state/berth/gateway-80.log" {
		t.Errorf("without: %q, %v", got, err)
	}
}
