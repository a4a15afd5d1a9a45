package reclaim_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
	"berth/reclaim"
)

// planFor makes the plan of a spec as this process.
func planFor(t testing.TB, k reclaim.Kernel, spec netstate.BindSpec, change ...func(*reclaim.Policy)) reclaim.Plan {
	t.Helper()
	policy := reclaim.DefaultPolicy()
	for _, c := range change {
		c(&policy)
	}
	plan := reclaim.NewPlan(why(t, k, spec), policy, reclaim.CurrentSelf(t.Context()))
	if !plan.Feasible {
		t.Fatalf("the plan is not feasible: %v", &reclaim.InfeasibleError{Plan: plan})
	}
	return plan
}

func fast(p *reclaim.Policy)      { p.Fast = true }
func impatient(p *reclaim.Policy) { p.Grace = 50 * time.Millisecond }

// freed fails unless the plan runs to its end and the port can be bound then.
func freed(t testing.TB, k reclaim.Kernel, plan reclaim.Plan) *log {
	t.Helper()
	var l log
	if err := reclaim.Run(t.Context(), k, plan, l.on); err != nil {
		t.Fatalf("%v after %v", err, l.kinds())
	}
	if p := netstate.TryBind(plan.Spec); !p.Bindable() {
		t.Errorf("the port is still refused: %v", p.Err)
	}
	return &l
}

// signals says who was sent what.
func (l *log) signals() []string {
	var all []string
	for _, e := range l.events {
		if e.Kind == reclaim.EventSignal {
			all = append(all, fmt.Sprintf("%s %d", e.Signal, e.Holder.ID.PID))
		}
	}
	return all
}

// privileged skips where this process may not see everybody's descriptors and
// take them.
func privileged(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

func TestSignalOfChoice(t *testing.T) {
	p, spec := holder(t, "stubborn")
	l := freed(t, machine(t), planFor(t, machine(t), spec, impatient, func(p *reclaim.Policy) { p.Signal = syscall.SIGQUIT }))
	want := []string{fmt.Sprint("SIGQUIT ", p.pid), fmt.Sprint("SIGKILL ", p.pid)}
	if got := l.signals(); !slices.Equal(got, want) {
		t.Errorf("signals %v, want %v", got, want)
	}
}

// TestDrainingHolder: one that has closed its listener at SIGTERM and finishes
// its work is left to it.
func TestDrainingHolder(t *testing.T) {
	p, spec := holder(t, "drains")
	k := machine(t)
	start := time.Now()
	l := freed(t, k, planFor(t, k, spec, func(p *reclaim.Policy) { p.Grace = time.Minute }))
	want := []reclaim.EventKind{reclaim.EventSignal, reclaim.EventDraining, reclaim.EventProbe, reclaim.EventBindable}
	if got := l.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v, nearly the whole grace", took)
	}
	if err := p.alive(); err != nil {
		t.Errorf("it was killed: %v", err)
	}
}

// TestStoppedHolder: a stopped process gets the polite signal only when it
// goes on, but SIGKILL ends it.
func TestStoppedHolder(t *testing.T) {
	p, spec := holder(t, "")
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	k := machine(t)
	l := freed(t, k, planFor(t, k, spec, impatient))
	if got := len(l.signals()); got != 2 {
		t.Errorf("signals %v", l.signals())
	}
}

// TestZombieParent: the holder's parent has ended and nobody has asked for it.
func TestZombieParent(t *testing.T) {
	p := play(t, "vanish")
	spec := p.spec(t)
	for alive(p.pid) == nil {
		time.Sleep(time.Millisecond) // there is no event for a zombie but the one that removes it
	}
	k := machine(t)
	plan := planFor(t, k, spec)
	if len(plan.Targets()) != 1 || plan.Targets()[0].ID.PID == p.pid {
		t.Errorf("targets %v", plan.Targets())
	}
	freed(t, k, plan)
}

// TestFastPath: the bind succeeds while the process, which has much to free,
// is still there.
func TestFastPath(t *testing.T) {
	privileged(t)
	for _, words := range []string{"", "plain", "at=[::]:0", "at=0.0.0.0:0"} {
		p, spec := holder(t, words+" mb=64")
		k := machine(t)
		l := freed(t, k, planFor(t, k, spec, fast))
		want := []reclaim.EventKind{reclaim.EventSignal, reclaim.EventShutdown, reclaim.EventProbe, reclaim.EventBindable}
		if got := l.kinds(); !slices.Equal(got, want) {
			t.Errorf("%q: events %v, want %v", words, got, want)
		}
		if l.events[1].Err != nil {
			t.Errorf("%q: %v", words, l.events[1].Err)
		}
		p.end()
	}
}

// TestUrgentEnds: the priority ends with what was urgent.
func TestUrgentEnds(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	policy := func() uint32 {
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return attr.Policy
	}
	before, inside := policy(), uint32(0)
	machine(t).Urgent(func() { inside = policy() })
	if after := policy(); after != before {
		t.Errorf("the scheduling policy is %d and was %d", after, before)
	}
	if inside != unix.SCHED_FIFO {
		t.Skipf("needs CAP_SYS_NICE: the policy inside is %d", inside)
	}
}

// TestFastPathWithoutTheRight: an ordinary user does not see everybody who may
// share the listener, so the plan waits for the exit, and says so.
func TestFastPathWithoutTheRight(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("needs an ordinary user")
	}
	_, spec := holder(t, "")
	k := machine(t)
	plan := planFor(t, k, spec, fast)
	if !slices.ContainsFunc(plan.Risks, func(s string) bool { return strings.Contains(s, "only root sees everybody") }) {
		t.Errorf("risks %q", plan.Risks)
	}
	l := freed(t, k, plan)
	if got := l.kinds(); slices.Contains(got, reclaim.EventShutdown) || !slices.Contains(got, reclaim.EventExit) {
		t.Errorf("events %v", got)
	}
}

// TestTakenDescriptorIsAnother: what the descriptor number leads to by now is
// not the listener, so nothing is shut down and the exit is waited for.
func TestTakenDescriptorIsAnother(t *testing.T) {
	privileged(t)
	p, spec := holder(t, "two")
	k := machine(t)
	v := why(t, k, spec)
	v.Blockers[0].Holders[0].FD = why(t, k, p.spec(t)).Blockers[0].Holders[0].FD
	policy := reclaim.DefaultPolicy()
	policy.Fast = true
	l := freed(t, k, reclaim.NewPlan(v, policy, reclaim.CurrentSelf(t.Context())))
	want := []reclaim.EventKind{reclaim.EventShutdown, reclaim.EventSignal, reclaim.EventExit, reclaim.EventProbe, reclaim.EventBindable}
	if got := l.kinds(); !slices.Equal(got, want) || l.events[0].Err == nil {
		t.Errorf("events %v, want %v", got, want)
	}
}

// TestSharedSinceThePlan: a child that was forked after the plan was made gets
// its listener back, and a second run stops it.
func TestSharedSinceThePlan(t *testing.T) {
	privileged(t)
	for name, words := range map[string]string{"chosen port": "fork", "port by number": "fork at=127.0.0.1:18777"} {
		t.Run(name, func(t *testing.T) { sharedSinceThePlan(t, words) })
	}
}

func sharedSinceThePlan(t *testing.T, words string) {
	lab.NeedNamespace(t)
	p, spec := holder(t, words)
	k := machine(t)
	plan := planFor(t, k, spec, fast)
	if err := p.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	child := p.number(t)
	var l log
	err := reclaim.Run(t.Context(), k, plan, l.on)
	if !errors.Is(err, reclaim.ErrShared) || !strings.Contains(err.Error(), strconv.Itoa(child)) {
		t.Errorf("error %v, want one that names %d", err, child)
	}
	if got := l.kinds(); !slices.Contains(got, reclaim.EventRestored) {
		t.Errorf("events %v", got)
	}
	if err := alive(child); err != nil {
		t.Errorf("the child was ended: %v", err)
	}
	// The parent, which was killed, is a holder until it has ended. Only its
	// process is waited for: the child reads from the pipes.
	if _, err := p.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	v := why(t, k, spec)
	if len(v.Blockers) != 1 || v.Blockers[0].Socket.State != netstate.Listen || v.Blockers[0].Holders[0].ID.PID != child {
		t.Fatalf("it does not listen again: %s", v.Summary)
	}
	freed(t, k, planFor(t, k, spec, fast))
}

// TestInheritedInAnotherSession: a descendant that has left the session and
// shares the listener is stopped too.
func TestInheritedInAnotherSession(t *testing.T) {
	for _, policy := range []func(*reclaim.Policy){fast, impatient} {
		p, spec := holder(t, "session")
		child := p.number(t)
		k := machine(t)
		plan := planFor(t, k, spec, policy)
		targets := plan.Targets()
		if len(targets) != 2 || targets[0].ID.PID != p.pid || targets[1].ID.PID != child {
			t.Fatalf("targets %v, want %d before %d", targets, p.pid, child)
		}
		freed(t, k, plan)
	}
}

// TestTwoThatShareByReusePort have a listener each.
func TestTwoThatShareByReusePort(t *testing.T) {
	for _, policy := range []func(*reclaim.Policy){fast, impatient} {
		_, spec := holder(t, "reuseport")
		play(t, fmt.Sprintf("hold reuseport at=%s", spec.AddrPort())).line(t)
		k := machine(t)
		plan := planFor(t, k, spec, policy)
		if len(plan.Targets()) != 2 {
			t.Fatalf("targets %v", plan.Targets())
		}
		freed(t, k, plan)
	}
}

// TestReexec: the same program with the same number and start time is still
// the one that was shown; another program is not, though it has the socket.
func TestReexec(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("needs cat")
	}
	for path, same := range map[string]bool{self: true, cat: false} {
		p, spec := holder(t, "become="+path)
		k := machine(t)
		plan := planFor(t, k, spec, impatient)
		if err := p.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		for { // exec sets the command line anew; there is no event for it
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
			if err != nil {
				t.Fatal(err)
			}
			if e, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid)); strings.HasPrefix(string(b), path) && strings.Contains(string(e), roleEnv+"=inherited") {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if same {
			freed(t, k, plan)
			continue
		}
		var l log
		err := reclaim.Run(t.Context(), k, plan, l.on)
		if !errors.Is(err, reclaim.ErrStale) || !strings.Contains(err.Error(), "has become another program, cat; nothing was signalled") {
			t.Errorf("error %v", err)
		}
		if err := p.alive(); err != nil || len(l.signals()) > 0 {
			t.Errorf("it was signalled: %v, %v", l.signals(), err)
		}
	}
}

// TestRespawner: what comes back is told once, with who brings it back, and
// is not hunted.
func TestRespawner(t *testing.T) {
	p := play(t, "supervise")
	spec := p.spec(t)
	k := machine(t)
	plan := planFor(t, k, spec, func(p *reclaim.Policy) { p.Watch = 5 * time.Second })
	if len(plan.Targets()) != 1 || plan.Steps[len(plan.Steps)-1].Kind != reclaim.StepWatch {
		t.Fatalf("steps %+v", plan.Steps)
	}
	var l log
	err := reclaim.Run(t.Context(), k, plan, l.on)
	var back *reclaim.RespawnError
	if !errors.As(err, &back) || !errors.Is(err, reclaim.ErrRespawned) {
		t.Fatalf("error %v after %v", err, l.kinds())
	}
	if back.New.ID.PID == back.Old.ID.PID || back.After < 0 || back.After > time.Minute {
		t.Errorf("%+v", back)
	}
	if want := fmt.Sprintf("by reclaim.test %d", p.pid); !strings.HasSuffix(err.Error(), want) && !strings.HasSuffix(err.Error(), strconv.Itoa(p.pid)) {
		t.Errorf("error %q does not name the supervisor, %d", err, p.pid)
	}
	if got := l.signals(); len(got) != 1 {
		t.Errorf("signals %v, want one", got)
	}
	if last := l.events[len(l.events)-1]; last.Kind != reclaim.EventRespawn || last.Holder.ID != back.New.ID {
		t.Errorf("the last event is %+v", last)
	}
}

func TestHolderInAnotherPidNamespace(t *testing.T) {
	privileged(t)
	p := play(t, "hold", func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	})
	spec := p.spec(t)
	k := machine(t)
	plan := planFor(t, k, spec, impatient)
	if len(plan.Targets()) != 1 || plan.Targets()[0].ID.PID != p.pid {
		t.Fatalf("targets %v, want %d", plan.Targets(), p.pid)
	}
	freed(t, k, plan)
}

func TestHolderInAnotherNetworkNamespace(t *testing.T) {
	privileged(t)
	lab.NeedNamespace(t)
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Release()
	for _, policy := range []func(*reclaim.Policy){fast, impatient} {
		var p *player
		if err := ns.Do(func() error { p = play(t, "hold"); return nil }); err != nil {
			t.Fatal(err)
		}
		spec := p.spec(t)
		spec.NetNS = ns
		k := machine(t)
		freed(t, k, planFor(t, k, spec, policy))
	}
}

// TestCutAClient: only the connection is destroyed, not a process.
func TestCutAClient(t *testing.T) {
	privileged(t)
	lab.NeedNamespace(t)
	_, server := holder(t, "")
	k := machine(t)
	numbered, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from string
		cut  bool
	}{
		"chosen by connect": {"", true},
		"chosen by bind":    {" 127.0.0.1:0", true},
		"bound by number":   {fmt.Sprintf(" 127.0.0.1:%d", numbered), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := play(t, "connect "+server.AddrPort().String()+c.from)
			spec := p.spec(t)
			v := why(t, k, spec)
			policy := reclaim.DefaultPolicy()
			self := reclaim.CurrentSelf(t.Context())
			if plan := reclaim.NewPlan(v, policy, self); plan.Feasible {
				t.Error("the plan does something without leave to destroy")
			}
			policy.Destroy = true
			plan := reclaim.NewPlan(v, policy, self)
			if plan.Feasible != c.cut || len(plan.Targets()) != 0 {
				t.Fatalf("feasible %v, targets %v: %v", plan.Feasible, plan.Targets(), &reclaim.InfeasibleError{Plan: plan})
			}
			if !c.cut {
				return
			}
			l := freed(t, k, plan)
			if want := []reclaim.EventKind{reclaim.EventCut, reclaim.EventProbe, reclaim.EventBindable}; !slices.Equal(l.kinds(), want) {
				t.Errorf("events %v, want %v", l.kinds(), want)
			}
			if got := p.line(t); got != unix.ECONNABORTED.Error() {
				t.Errorf("the client saw %q", got)
			}
			if err := p.alive(); err != nil {
				t.Errorf("the client has ended: %v", err)
			}
		})
	}
}

// TestKilledAtEveryStep: whenever berth is killed, a second run finishes.
func TestKilledAtEveryStep(t *testing.T) {
	for _, how := range []string{"", " fast"} {
		for n := 0; ; n++ {
			p, spec := holder(t, "stubborn session")
			p.number(t) // its child is there, and shares the listener
			first := play(t, "free "+spec.AddrPort().String()+how)
			at := first.line(t)
			for i := 0; i < n && at != "done"; i++ {
				if _, err := io.WriteString(first.stdin, "\n"); err != nil {
					t.Fatal(err)
				}
				at = first.line(t)
			}
			first.end()
			k := machine(t)
			v := why(t, k, spec)
			// A process that is ending has given up its memory first, and is hidden
			// even from its own user for the moment until its sockets follow.
			for end := time.Now().Add(5 * time.Second); !v.Bindable && len(v.Holders()) == 0 && time.Now().Before(end); {
				v = why(t, k, spec)
			}
			if !v.Bindable {
				policy := reclaim.DefaultPolicy()
				impatient(&policy)
				freed(t, k, reclaim.NewPlan(v, policy, reclaim.CurrentSelf(t.Context())))
			} else if at == "planned" {
				t.Errorf("%s: the port was free before anything was done", at)
			}
			if at == "done" {
				break
			}
		}
	}
}

// TestReusedPid forces the number of a stopped holder upon another process,
// which takes a pid namespace.
func TestReusedPid(t *testing.T) {
	privileged(t)
	p := play(t, "reuse", func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	})
	for {
		line := p.line(t)
		if line == "done" {
			return
		}
		t.Error(line)
	}
}
