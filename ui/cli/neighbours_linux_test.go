package cli

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"berth/netstate"
	"berth/netstate/lab"
	"berth/netstate/netns"
	"berth/reclaim"
	"berth/ui"
)

// newNeighbour makes a network namespace that ends with the test.
func newNeighbour(t *testing.T) netns.Namespace {
	t.Helper()
	lab.NeedNamespace(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN) to make and enter network namespaces")
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Release)
	return ns
}

// startIn starts an act inside a network namespace.
func startIn(t *testing.T, ns netns.Namespace, act string, args ...string) (p *process) {
	t.Helper()
	if err := ns.Do(func() error { p = start(t, act, args...); return nil }); err != nil {
		t.Fatal(err)
	}
	if p == nil {
		t.FailNow() // start has said why
	}
	return p
}

// tableOf is the table of a namespace, or nil.
func tableOf(o ui.Observation, ns netns.Namespace) *ui.Table {
	for i := range o.Others {
		if o.Others[i].Snapshot.NetNS.ID == ns.ID {
			return &o.Others[i]
		}
	}
	return nil
}

// A port of another namespace is seen, asked about and freed there, while the
// same port here is left alone.
func TestEngineNeighbour(t *testing.T) {
	port := freshPort()
	e := startTestEngine(t, actGateway(freshPort()), false)
	ns := newNeighbour(t)
	addr := "127.0.0.1:" + portText(port)
	here, there := start(t, "hold", addr), startIn(t, ns, "hold", addr)
	here.await(t, "holding")
	there.await(t, "holding")
	counts := func(o ui.Observation) int {
		if tab := tableOf(o, ns); tab != nil {
			return tab.Verdicts[port].Counts[netstate.Listen]
		}
		return -1
	}
	e.Refresh()
	if obs := observe(t, e, "the listener here is seen", func(o ui.Observation) bool { return o.Verdicts[port].Counts[netstate.Listen] == 1 }); len(obs.Others) != 0 || obs.Note != "" {
		t.Errorf("%d other namespaces and the note %q, though nobody asked for one", len(obs.Others), obs.Note)
	}

	e.Look(ui.Reach{All: true})
	obs := observe(t, e, "the listener there is seen", func(o ui.Observation) bool { return counts(o) == 1 })
	tab := tableOf(obs, ns)
	if name := tab.Snapshot.NetNS.String(); !strings.HasSuffix(name, " "+strconv.Itoa(there.Process.Pid)) {
		t.Errorf("the namespace is called %q, want the name of pid %d", name, there.Process.Pid)
	}
	for _, s := range tab.Snapshot.Sockets {
		for _, h := range obs.Owners.Of(&s) {
			if h.ID.PID != there.Process.Pid {
				t.Errorf("pid %d holds %+v", h.ID.PID, s)
			}
		}
	}
	if hs := obs.Owners.OfAll(tab.Snapshot.Port(port)); len(hs) != 1 {
		t.Errorf("the holders there are %+v", hs)
	}
	if hs := obs.Owners.OfAll(obs.Snapshot.Port(port)); len(hs) != 1 || hs[0].ID.PID != here.Process.Pid {
		t.Errorf("the holders here are %+v", hs)
	}

	spec := e.Spec(tab.Snapshot.NetNS, port)
	e.Focus(&spec)
	obs = observe(t, e, "a bind was made there", func(o ui.Observation) bool {
		tab := tableOf(o, ns)
		return tab != nil && tab.Verdicts[port].Evidence == netstate.EvidenceBind
	})
	if v := tableOf(obs, ns).Verdicts[port]; v.Errno != "EADDRINUSE" || len(v.Holders()) != 1 || v.Holders()[0].ID.PID != there.Process.Pid {
		t.Errorf("the verdict there is %+v", v)
	}
	if v := obs.Verdicts[port]; v.Evidence != netstate.EvidenceRules {
		t.Errorf("the verdict here rests on %q", v.Evidence)
	}

	held, err := e.Plan(t.Context(), ui.PlanRequest{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	plan := held.Plan()
	if targets := plan.Targets(); !plan.Feasible || len(targets) != 1 || targets[0].ID.PID != there.Process.Pid {
		t.Fatalf("the plan is %+v", plan)
	}
	if err := held.Run(t.Context(), func(reclaim.Event) {}); err != nil {
		t.Fatal(err)
	}
	// The only process there has ended, and nothing else leads to it.
	observe(t, e, "the namespace is let go of", func(o ui.Observation) bool { return counts(o) == -1 })
	if v, err := e.sys.Why(t.Context(), e.Spec(netns.Namespace{}, port)); err != nil || v.Bindable {
		t.Errorf("the port here: %+v, %v; want it held as before", v, err)
	}
}

// One namespace can be looked at alone, and another one that nobody asked for
// is not read.
func TestEngineOneNeighbour(t *testing.T) {
	port := freshPort()
	e := startTestEngine(t, actGateway(freshPort()), false)
	ns, other := newNeighbour(t), newNeighbour(t)
	startIn(t, ns, "hold", "127.0.0.1:"+portText(port)).await(t, "holding")
	startIn(t, other, "hold", "127.0.0.1:"+portText(port)).await(t, "holding")
	e.Look(ui.Reach{NetNS: ns})
	obs := observe(t, e, "the listener there is seen", func(o ui.Observation) bool {
		tab := tableOf(o, ns)
		return tab != nil && tab.Verdicts[port].Reason == netstate.ReasonHeld
	})
	if len(obs.Others) != 1 || obs.Note != "" {
		t.Errorf("%d other namespaces, and the note %q", len(obs.Others), obs.Note)
	}
	e.Look(ui.Reach{})
	observe(t, e, "nothing else is read", func(o ui.Observation) bool { return len(o.Others) == 0 })
}

// Who may not enter any is told so.
func TestEngineWithoutTheRight(t *testing.T) {
	e := startTestEngine(t, actGateway(freshPort()), false)
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user")
	}
	e.Look(ui.Reach{All: true})
	observe(t, e, "the note says so", func(o ui.Observation) bool { return o.Note == onlyOwn && len(o.Others) == 0 })
	e.Look(ui.Reach{})
	observe(t, e, "the note is gone", func(o ui.Observation) bool { return o.Note == "" })
}

// A namespace can be named to the interface, and to what stands in for it
// without a terminal.
func TestNamespaceOfTheInterface(t *testing.T) {
	port := freshPort()
	ns := newNeighbour(t)
	there := startIn(t, ns, "hold", "127.0.0.1:"+portText(port))
	there.await(t, "holding")
	pid := strconv.Itoa(there.Process.Pid)
	berth(t, portText(port)).is(t, 0, "can be bound now", "")
	berth(t, portText(port), "--netns", pid).is(t, 3, "in netns exe "+pid+" cannot be bound", "")
	berth(t, "--netns", "all").is(t, 0, "NETNS", "")
	berth(t, portText(port), "--netns", "no-such-name").is(t, 2, "", "no process, namespace or container is called that")

	x := onTerminal(t, portText(port), "--netns", pid)
	x.await(t, "127.0.0.1:"+portText(port)+" in netns exe "+pid+" cannot be bound")
	if !strings.Contains(x.screen(), "stopped") {
		t.Error("the gateway was started, though only a port elsewhere was asked about")
	}
	x.press(t, "q")
	if status := x.status(t); status != 0 {
		t.Errorf("status %d", status)
	}
	x = onTerminal(t, portText(port), "--netns", "no-such-name")
	x.await(t, "no process, namespace or container is called that")
	if status := x.status(t); status != 2 {
		t.Errorf("status %d", status)
	}
}

// The address that a host means is that of the namespace in which the bind
// would be made.
func TestEngineAssumesABindInEachNamespace(t *testing.T) {
	e := startTestEngine(t, actGateway(freshPort()), false)
	ns, other := newNeighbour(t), newNeighbour(t)
	there := netip.MustParseAddr("127.9.9.9")
	asked := map[uint64]int{}
	e.close() // resolve belongs to the goroutine that observes
	e.assumeIn = func(_ context.Context, in netns.Namespace) (netstate.BindSpec, error) {
		if asked[in.ID]++; in.ID == other.ID {
			return netstate.BindSpec{}, errors.New("no such interface")
		}
		return netstate.NewBindSpec(there, 1), nil
	}
	for range 2 {
		e.resolve(t.Context(), []netns.Namespace{ns, other})
	}
	if asked[ns.ID] != 1 || asked[other.ID] != 1 {
		t.Errorf("asked %v times, want once each", asked)
	}
	for in, want := range map[netns.Namespace]netip.Addr{ns: there, other: e.assume.Addr, {}: e.assume.Addr} {
		if spec := e.Spec(in, 9); spec.Addr != want || spec.Port != 9 || spec.NetNS != in {
			t.Errorf("in %q the bind is %+v, want one to %s", in, spec, want)
		}
	}
}
