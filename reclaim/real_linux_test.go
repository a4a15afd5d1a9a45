package reclaim_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/netstate"
	"berth/reclaim"
)

func machine(t testing.TB) *reclaim.System {
	t.Helper()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.Close() })
	return reclaim.NewSystem(sys)
}

func why(t testing.TB, k reclaim.Kernel, spec netstate.BindSpec) netstate.Verdict {
	t.Helper()
	v, err := k.Why(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// log collects events and their kinds.
type log struct {
	events []reclaim.Event
}

func (l *log) on(e reclaim.Event) { l.events = append(l.events, e) }

func (l *log) kinds() []reclaim.EventKind {
	var ks []reclaim.EventKind
	for _, e := range l.events {
		if len(ks) == 0 || ks[len(ks)-1] != e.Kind {
			ks = append(ks, e.Kind)
		}
	}
	return ks
}

func TestPoliteHolderIsStopped(t *testing.T) {
	_, spec := holder(t, "polite")
	k := machine(t)
	v := why(t, k, spec)
	if v.Reason != netstate.ReasonHeld {
		t.Fatalf("reason %s: %s", v.Reason, v.Summary)
	}
	plan := reclaim.NewPlan(v, reclaim.DefaultPolicy(), reclaim.CurrentSelf(t.Context()))
	if !plan.Feasible || plan.Typed != "" || len(plan.Targets()) != 1 {
		t.Fatalf("plan %+v", plan)
	}
	var l log
	if err := reclaim.Run(t.Context(), k, plan, l.on); err != nil {
		t.Fatal(err)
	}
	// On a busy machine the end of the process can be later than that of its
	// listener by so much that the run does not wait for it.
	got := slices.DeleteFunc(l.kinds(), func(k reclaim.EventKind) bool { return k == reclaim.EventDraining || k == reclaim.EventExit })
	want := []reclaim.EventKind{reclaim.EventSignal, reclaim.EventProbe, reclaim.EventBindable}
	if !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", l.kinds(), want)
	}
	if p := netstate.TryBind(spec); !p.Bindable() {
		t.Errorf("the port is still refused: %v", p.Err)
	}
}

func TestStubbornHolderIsKilled(t *testing.T) {
	_, spec := holder(t, "stubborn")
	k := machine(t)
	policy := reclaim.DefaultPolicy()
	policy.Grace = 100 * time.Millisecond
	plan := reclaim.NewPlan(why(t, k, spec), policy, reclaim.CurrentSelf(t.Context()))
	var l log
	if err := reclaim.Run(t.Context(), k, plan, l.on); err != nil {
		t.Fatal(err)
	}
	var signals []string
	for _, e := range l.events {
		if e.Kind == reclaim.EventSignal {
			signals = append(signals, e.Signal)
		}
	}
	if !slices.Equal(signals, []string{"SIGTERM", "SIGKILL"}) {
		t.Errorf("signals %v", signals)
	}
}

func TestNoKillLeavesTheStubborn(t *testing.T) {
	cmd, spec := holder(t, "stubborn")
	k := machine(t)
	policy := reclaim.DefaultPolicy()
	policy.Grace, policy.NoKill = 100*time.Millisecond, true
	plan := reclaim.NewPlan(why(t, k, spec), policy, reclaim.CurrentSelf(t.Context()))
	if err := reclaim.Run(t.Context(), k, plan, new(log).on); !errors.Is(err, reclaim.ErrSurvived) {
		t.Errorf("got %v, want %v", err, reclaim.ErrSurvived)
	}
	if err := cmd.alive(); err != nil {
		t.Errorf("the holder is gone: %v", err)
	}
}

// TestReusedPidIsNotSignalled: the plan's pid names another process by now,
// which its start time tells.
func TestReusedPidIsNotSignalled(t *testing.T) {
	cmd, spec := holder(t, "polite")
	k := machine(t)
	v := why(t, k, spec)
	v.Blockers[0].Holders[0].ID.Start--
	plan := reclaim.NewPlan(v, reclaim.DefaultPolicy(), reclaim.CurrentSelf(t.Context()))
	var l log
	err := reclaim.Run(t.Context(), k, plan, l.on)
	if !errors.Is(err, reclaim.ErrStale) || !strings.Contains(err.Error(), "nothing was signalled") {
		t.Errorf("got %v", err)
	}
	if got := l.kinds(); !slices.Equal(got, []reclaim.EventKind{reclaim.EventStale}) {
		t.Errorf("events %v", got)
	}
	if err := cmd.alive(); err != nil {
		t.Errorf("the holder is gone: %v", err)
	}
}

// TestGoneBeforeTheSignal: a holder that ended by itself is no error.
func TestGoneBeforeTheSignal(t *testing.T) {
	cmd, spec := holder(t, "polite")
	k := machine(t)
	plan := reclaim.NewPlan(why(t, k, spec), reclaim.DefaultPolicy(), reclaim.CurrentSelf(t.Context()))
	cmd.end()
	var l log
	if err := reclaim.Run(t.Context(), k, plan, l.on); err != nil {
		t.Fatal(err)
	}
	for _, e := range l.events {
		if e.Kind == reclaim.EventSignal {
			t.Errorf("a signal was sent: %+v", e)
		}
	}
}

// TestDestroyTimeWait frees a port on which only the kernel sits.
func TestDestroyTimeWait(t *testing.T) {
	cmd, spec := holder(t, "plain closing")
	client, err := net.Dial("tcp4", spec.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	client.Close()
	cmd.end()

	k := machine(t)
	v := why(t, k, spec)
	if v.Reason != netstate.ReasonLingering || v.Blockers[0].Socket.State != netstate.TimeWait {
		t.Fatalf("reason %s: %s", v.Reason, v.Summary)
	}
	self := reclaim.CurrentSelf(t.Context())
	// Without leave to destroy, the plan says that the wait is too short.
	if plan := reclaim.NewPlan(v, reclaim.DefaultPolicy(), self); plan.Feasible {
		t.Errorf("a plan to wait 3 s for 60 s of TIME-WAIT counts as feasible")
	}
	policy := reclaim.DefaultPolicy()
	policy.Destroy = true
	plan := reclaim.NewPlan(v, policy, self)
	if !self.Destroy {
		if plan.Feasible {
			t.Error("a plan that needs CAP_NET_ADMIN counts as feasible without it")
		}
		t.Skip("destroying a socket needs CAP_NET_ADMIN")
	}
	var l log
	if err := reclaim.Run(t.Context(), k, plan, l.on); err != nil {
		t.Fatal(err)
	}
	want := []reclaim.EventKind{reclaim.EventDestroyed, reclaim.EventProbe, reclaim.EventBindable}
	if got := l.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// TestWaitWakesByEvent: the port is freed while the wait sleeps for an hour
// between probes, so only the kernel's report can have woken it.
func TestWaitWakesByEvent(t *testing.T) {
	cmd, spec := holder(t, "polite")
	k := machine(t)
	started := make(chan struct{})
	done := make(chan error, 1)
	first := true
	go func() {
		done <- reclaim.WaitBindable(t.Context(), k, spec, 20*time.Second, time.Hour, func(reclaim.Event) {
			if first {
				first = false
				close(started)
			}
		})
	}()
	<-started
	cmd.end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWaitEndsAtOnceWithoutPermission is the EACCES path on the real kernel.
func TestWaitEndsAtOnceWithoutPermission(t *testing.T) {
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), 81)
	if p := netstate.TryBind(spec); !errors.Is(p.Err, syscall.EACCES) {
		t.Skipf("needs a user who may not bind port 81: %v", p.Err)
	}
	err := reclaim.WaitBindable(t.Context(), machine(t), spec, time.Hour, time.Hour, new(log).on)
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

// TestWaitEndsAtOnceWithoutTheAddress: EADDRNOTAVAIL never clears.
func TestWaitEndsAtOnceWithoutTheAddress(t *testing.T) {
	spec := netstate.NewBindSpec(netip.MustParseAddr("192.0.2.1"), 18789)
	err := reclaim.WaitBindable(t.Context(), machine(t), spec, time.Hour, time.Hour, new(log).on)
	if !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("got %v", err)
	}
}

func TestWaitTimesOut(t *testing.T) {
	cmd, spec := holder(t, "polite")
	var l log
	err := reclaim.WaitBindable(t.Context(), machine(t), spec, 200*time.Millisecond, 50*time.Millisecond, l.on)
	if !errors.Is(err, reclaim.ErrTimeout) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", cmd.pid)) {
		t.Errorf("got %v", err)
	}
	// How many probes there are in between is the machine's to say.
	if n := len(l.events); n < 2 || l.events[0].Kind != reclaim.EventProbe || l.events[n-1].Kind != reclaim.EventTimeout {
		t.Errorf("events %v", l.kinds())
	}
}
