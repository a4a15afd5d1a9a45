package reclaim

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/netstate"
)

var at = time.Date(2026, 11, 23, 14, 2, 13, 0, time.UTC)

func me() Self { return Self{PID: 900, Ancestors: []int{800, 700, 1}, UID: 1000} }

func process(pid int, name string) netstate.Holder {
	return netstate.Holder{ID: netstate.ProcessID{PID: pid, Start: 5}, Name: name, Cmdline: []string{name}, User: "alice", UID: 1000, FD: 3}
}

// refused builds the verdict of a bind that blockers refuse.
func refused(reason netstate.Reason, blockers ...netstate.Blocker) netstate.Verdict {
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), 18789)
	return netstate.Verdict{At: at, Spec: spec, Errno: "EADDRINUSE", Reason: reason, Blockers: blockers, Counts: map[netstate.State]int{}, Summary: "refused"}
}

func listening(hs ...netstate.Holder) netstate.Blocker {
	return netstate.Blocker{
		Socket:  netstate.Socket{State: netstate.Listen, Local: netip.MustParseAddrPort("127.0.0.1:18789"), Inode: 7, ReuseAddr: netstate.Yes},
		Holders: hs, Certain: true, Outbound: netstate.No,
	}
}

func timeWait(left time.Duration) netstate.Blocker {
	s := netstate.Socket{State: netstate.TimeWait, Local: netip.MustParseAddrPort("127.0.0.1:18789"), Remote: netip.MustParseAddrPort("127.0.0.1:50000"), Timer: netstate.TimerTimeWait, Expires: left}
	return netstate.Blocker{Socket: s, Clears: (*netstate.Wheel)(nil).Clears(&s, at)}
}

func kinds(p Plan) []StepKind {
	var ks []StepKind
	for _, s := range p.Steps {
		ks = append(ks, s.Kind)
	}
	return ks
}

func TestPlanForAHolder(t *testing.T) {
	v := refused(netstate.ReasonHeld, listening(process(4211, "node")))
	v.Counts[netstate.Established] = 3
	p := NewPlan(v, DefaultPolicy(), me())
	if !p.Feasible || p.Typed != "" {
		t.Errorf("feasible %v, typed %q", p.Feasible, p.Typed)
	}
	if got, want := kinds(p), []StepKind{StepTerm, StepKill, StepWait}; !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
	if len(p.Risks) != 1 || p.Risks[0] != "3 connections on this port will be cut off" {
		t.Errorf("risks %q", p.Risks)
	}
}

func TestPlanStopsParentsFirst(t *testing.T) {
	worker, master := process(300, "worker"), process(500, "master")
	master.Parents = []netstate.Parent{{PID: 1}}
	worker.Parents = []netstate.Parent{{PID: 500}, {PID: 1}}
	p := NewPlan(refused(netstate.ReasonHeld, listening(worker, master)), DefaultPolicy(), me())
	got := p.Targets()
	if len(got) != 2 || got[0].ID.PID != 500 || got[1].ID.PID != 300 {
		t.Errorf("targets %v, want the master first", got)
	}
}

// TestPlanGuards: whoever must not be signalled makes the plan infeasible and
// is in no step.
func TestPlanGuards(t *testing.T) {
	client := listening(process(77, "firefox"))
	client.Socket.State, client.Socket.Remote, client.Outbound = netstate.Established, netip.MustParseAddrPort("127.0.0.1:443"), netstate.Yes
	hidden := listening()
	for name, c := range map[string]struct {
		v    netstate.Verdict
		says string
	}{
		"init":           {refused(netstate.ReasonHeld, listening(process(1, "systemd"))), "first process"},
		"pid 0":          {refused(netstate.ReasonHeld, listening(process(0, ""))), "first process"},
		"itself":         {refused(netstate.ReasonHeld, listening(process(900, "berth"))), "is this berth"},
		"an ancestor":    {refused(netstate.ReasonHeld, listening(process(800, "bash"))), "ancestor of this berth"},
		"a client":       {refused(netstate.ReasonInUse, client), "outgoing connection to 127.0.0.1:443"},
		"a hidden one":   {refused(netstate.ReasonHeld, hidden), "run berth as root"},
		"nobody visible": {refused(netstate.ReasonUnknown), "refused"},
		"no permission":  {refused(netstate.ReasonDenied), "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPlan(c.v, DefaultPolicy(), me())
			if p.Feasible || len(p.Targets()) != 0 {
				t.Fatalf("feasible %v, targets %v", p.Feasible, p.Targets())
			}
			if len(p.Refused) != 1 || !strings.Contains(p.Refused[0].Text(), c.says) {
				t.Errorf("refused %+v, want it to say %q", p.Refused, c.says)
			}
			err := Run(t.Context(), nil, p, func(e Event) { t.Errorf("event %+v", e) })
			if err == nil || !strings.HasPrefix(err.Error(), "nothing was done: ") {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// TestPlanWithOneForbiddenHolder: stopping the other holders would not free
// the port, so the plan must not run at all.
func TestPlanWithOneForbiddenHolder(t *testing.T) {
	p := NewPlan(refused(netstate.ReasonHeld, listening(process(4211, "node"), process(800, "bash"))), DefaultPolicy(), me())
	if p.Feasible {
		t.Error("the plan counts as feasible though an ancestor shares the socket")
	}
}

func TestPlanTyped(t *testing.T) {
	root := Self{PID: 900, UID: 0}
	nginx := process(80, "nginx")
	nginx.User, nginx.UID = "www-data", 33
	sshd := process(640, "sshd")
	evil := process(641, "sshd")
	evil.Name, evil.UID = "a\x1b[2Jb", 5
	gateway := process(4211, "node")
	gateway.Cmdline = []string{"/usr/bin/node", "server.js"}
	title := process(4212, "openclaw-gatewa")
	title.Cmdline = []string{"openclaw-gateway"}
	own := DefaultPolicy()
	own.Own = []string{"node", "server.js"}
	openclaw := DefaultPolicy()
	openclaw.Own = []string{"openclaw", "gateway", "run"}
	for name, c := range map[string]struct {
		self   Self
		h      netstate.Holder
		policy Policy
		typed  string
		estab  int
	}{
		"mine":                    {me(), process(1234, "node"), DefaultPolicy(), "", 0},
		"another user's":          {root, nginx, DefaultPolicy(), "nginx", 0},
		"sshd":                    {me(), sshd, DefaultPolicy(), "sshd", 0},
		"a name with escapes":     {root, evil, DefaultPolicy(), "a?[2Jb", 0},
		"many clients":            {me(), process(1234, "node"), DefaultPolicy(), "node", 11},
		"the gateway's own":       {me(), gateway, own, "", 0},
		"not the gateway's own":   {me(), process(1234, "python3"), own, "python3", 0},
		"a gateway with a title":  {me(), title, openclaw, "", 0},
		"other words, same start": {me(), title, own, "openclaw-gatewa", 0},
	} {
		t.Run(name, func(t *testing.T) {
			v := refused(netstate.ReasonHeld, listening(c.h))
			v.Counts[netstate.Established] = c.estab
			if p := NewPlan(v, c.policy, c.self); p.Typed != c.typed {
				t.Errorf("typed %q (%s), want %q", p.Typed, p.TypedWhy, c.typed)
			}
		})
	}
}

func TestPlanNeedsRoot(t *testing.T) {
	nginx := process(80, "nginx")
	nginx.User, nginx.UID = "www-data", 33
	p := NewPlan(refused(netstate.ReasonHeld, listening(nginx)), DefaultPolicy(), me())
	if p.Feasible || p.Steps[0].Needs == "" {
		t.Errorf("feasible %v, needs %q", p.Feasible, p.Steps[0].Needs)
	}
}

func TestPlanForTimeWait(t *testing.T) {
	destroy := DefaultPolicy()
	destroy.Destroy = true
	able := me()
	able.Destroy = true
	for name, c := range map[string]struct {
		left     time.Duration
		policy   Policy
		self     Self
		feasible bool
		kinds    []StepKind
	}{
		"soon over":        {2 * time.Second, DefaultPolicy(), me(), true, []StepKind{StepWait}},
		"too long":         {57 * time.Second, DefaultPolicy(), me(), false, []StepKind{StepWait}},
		"destroyed":        {57 * time.Second, destroy, able, true, []StepKind{StepDestroy, StepWait}},
		"not able to":      {57 * time.Second, destroy, me(), false, []StepKind{StepDestroy, StepWait}},
		"nothing to do":    {0, DefaultPolicy(), me(), true, []StepKind{StepWait}},
		"destroy, nothing": {0, destroy, able, true, []StepKind{StepWait}},
	} {
		t.Run(name, func(t *testing.T) {
			v := refused(netstate.ReasonLingering, timeWait(c.left))
			if c.left == 0 {
				v = refused(netstate.ReasonFree)
				v.Bindable = true
			}
			p := NewPlan(v, c.policy, c.self)
			if p.Feasible != c.feasible || !slices.Equal(kinds(p), c.kinds) {
				t.Errorf("feasible %v, steps %v, want %v, %v", p.Feasible, kinds(p), c.feasible, c.kinds)
			}
		})
	}
}

// TestHolderAndTimeWait: killing the holder would leave the port refused, so
// nobody is killed for nothing.
func TestHolderAndTimeWait(t *testing.T) {
	p := NewPlan(refused(netstate.ReasonHeld, listening(process(4211, "node")), timeWait(57*time.Second)), DefaultPolicy(), me())
	if p.Feasible {
		t.Error("the plan counts as feasible")
	}
}

// A listener that a supervisor lends out stays as it is: shut down, it would be
// deaf for the supervisor too.
func TestActivatedListenerIsNotShutDown(t *testing.T) {
	for _, holds := range []bool{false, true} {
		h := process(4211, "node")
		h.Supervisor = &netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: "node.socket", HoldsPort: holds}
		v := refused(netstate.ReasonHeld, listening(h))
		v.Caps.AllHolders = true
		shuts := slices.ContainsFunc(NewPlan(v, DefaultPolicy(), me()).Steps, func(s Step) bool { return s.Kind == StepShutdown })
		if shuts == holds {
			t.Errorf("lent out %v: shut down %v", holds, shuts)
		}
	}
}
