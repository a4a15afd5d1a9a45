package reclaim

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"berth/netstate"
	"berth/netstate/netstatetest"
)

// scripted makes netstatetest's kernel a Kernel.
type scripted struct{ *netstatetest.Kernel }

func (k scripted) Open(h netstate.Holder) (Process, error) {
	p, err := k.Kernel.Open(h.ID)
	switch {
	case errors.Is(err, netstatetest.ErrStale):
		return nil, ErrStale
	case err != nil:
		return nil, ErrGone
	}
	return scriptedProcess{p}, nil
}

type scriptedProcess struct{ *netstatetest.Process }

func (p scriptedProcess) Signal(sig syscall.Signal) error { return gone(p.Process.Signal(sig)) }

func (p scriptedProcess) Check() error {
	select {
	case <-p.Done():
		return ErrGone
	default:
		return nil
	}
}

func (p scriptedProcess) Take(_ netstate.Holder, s netstate.Socket) (Listener, error) {
	l, err := p.Process.Take(s)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func gone(err error) error {
	if errors.Is(err, netstatetest.ErrGone) {
		return ErrGone
	}
	return err
}

// asleep is a kernel that reports nothing, so that only the interval wakes.
type asleep struct{ scripted }

func (asleep) Wake(context.Context, netstate.BindSpec) <-chan struct{} { return nil }

var gateway = netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), 18789)

func holding(k *netstatetest.Kernel, does netstatetest.Behaviour) *netstatetest.Process {
	p := k.Start(netstate.Holder{Name: "node", UID: 1000}, does)
	if err := k.Listen(p, gateway); err != nil {
		panic(err)
	}
	return p
}

func planFor(t *testing.T, k Kernel, policy Policy) Plan {
	t.Helper()
	v, err := k.Why(t.Context(), gateway)
	if err != nil {
		t.Fatal(err)
	}
	return NewPlan(v, policy, me())
}

// kindsOf leaves out the probes that repeat.
func kindsOf(events []Event) []EventKind {
	var ks []EventKind
	for _, e := range events {
		if len(ks) == 0 || ks[len(ks)-1] != e.Kind {
			ks = append(ks, e.Kind)
		}
	}
	return ks
}

// TestLadder walks the rungs: polite, late, stubborn, stuck, refused.
func TestLadder(t *testing.T) {
	for name, c := range map[string]struct {
		does   netstatetest.Behaviour
		noKill bool
		err    error
		events []EventKind
		took   time.Duration
	}{
		"ends at once":      {netstatetest.Behaviour{}, false, nil, []EventKind{EventSignal, EventExit, EventProbe, EventBindable}, 0},
		"ends within grace": {netstatetest.Behaviour{Term: 2900 * time.Millisecond}, false, nil, []EventKind{EventSignal, EventExit, EventProbe, EventBindable}, 2900 * time.Millisecond},
		"ends on the edge":  {netstatetest.Behaviour{Term: 3 * time.Second}, false, nil, nil, 3 * time.Second},
		"ignores SIGTERM":   {netstatetest.Behaviour{Term: netstatetest.Never, Keep: syscall.EPERM}, false, nil, []EventKind{EventSignal, EventShutdown, EventSignal, EventExit, EventProbe, EventBindable}, 3 * time.Second},
		"dies slowly":       {netstatetest.Behaviour{Term: netstatetest.Never, Kill: time.Second}, false, nil, []EventKind{EventSignal, EventShutdown, EventProbe, EventBindable}, 3 * time.Second},
		"is not killed":     {netstatetest.Behaviour{Term: netstatetest.Never}, true, ErrSurvived, []EventKind{EventSignal, EventSurvived}, 3 * time.Second},
		"is stuck":          {netstatetest.Behaviour{Term: netstatetest.Never, Kill: netstatetest.Never, Keep: syscall.EPERM}, false, ErrSurvived, []EventKind{EventSignal, EventShutdown, EventSignal, EventSurvived}, 5 * time.Second},
		"may not be":        {netstatetest.Behaviour{Refuse: syscall.EPERM}, false, fs.ErrPermission, []EventKind{EventError}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := scripted{netstatetest.New()}
				holding(k.Kernel, c.does)
				policy := DefaultPolicy()
				policy.NoKill = c.noKill
				plan := planFor(t, k, policy)
				start := time.Now()
				var events []Event
				err := Run(t.Context(), k, plan, func(e Event) { events = append(events, e) })
				if !errors.Is(err, c.err) {
					t.Errorf("error %v, want %v", err, c.err)
				}
				if got := kindsOf(events); c.events != nil && !slices.Equal(got, c.events) {
					t.Errorf("events %v, want %v", got, c.events)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if n := k.Opened(); n != 0 {
					t.Errorf("%d processes were not let go of", n)
				}
			})
		})
	}
}

// TestCancelAfterEachEvent cancels a run at every one of its events: nothing is
// signalled or destroyed afterwards, the run says that it was cancelled, and
// its error what had been done.
func TestCancelAfterEachEvent(t *testing.T) {
	type scene struct {
		set    func(k *netstatetest.Kernel)
		policy func(p *Policy)
	}
	stubborn := netstatetest.Behaviour{Term: netstatetest.Never, Kill: time.Second}
	kept := stubborn
	kept.Keep = syscall.EPERM
	pair := func(does netstatetest.Behaviour) func(k *netstatetest.Kernel) {
		return func(k *netstatetest.Kernel) {
			cookie := k.Add(listenSocket(), k.Start(netstate.Holder{Name: "master", UID: 1000}, does))
			k.Share(cookie, k.Start(netstate.Holder{Name: "worker", UID: 1000}, does))
		}
	}
	for name, c := range map[string]scene{
		"polite":    {pair(netstatetest.Behaviour{Term: time.Second}), func(*Policy) {}},
		"stubborn":  {pair(stubborn), func(*Policy) {}},
		"kept":      {pair(kept), func(*Policy) {}},
		"fast":      {pair(stubborn), func(p *Policy) { p.Fast = true }},
		"fast kept": {pair(kept), func(p *Policy) { p.Fast = true }},
		"destroy": {func(k *netstatetest.Kernel) {
			pair(netstatetest.Behaviour{})(k)
			k.Add(netstate.Socket{State: netstate.TimeWait, Local: gateway.AddrPort(), Remote: netip.MustParseAddrPort("127.0.0.1:50000")})
		}, func(p *Policy) { p.Destroy = true }},
		"drains":       {pair(netstatetest.Behaviour{Close: time.Millisecond, Term: time.Minute}), func(*Policy) {}},
		"drains late":  {pair(netstatetest.Behaviour{Close: 3*time.Second - settleTime/2, Term: time.Minute}), func(*Policy) {}},
		"ended before": {func(k *netstatetest.Kernel) { pair(netstatetest.Behaviour{})(k) }, func(*Policy) {}},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				over := false
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					k := scripted{netstatetest.New()}
					c.set(k.Kernel)
					policy := DefaultPolicy()
					c.policy(&policy)
					self := me()
					self.Destroy = true
					v, err := k.Why(t.Context(), gateway)
					if err != nil {
						t.Fatal(err)
					}
					plan := NewPlan(v, policy, self)
					if name == "ended before" {
						p, err := k.Kernel.Open(plan.Targets()[0].ID)
						if err != nil {
							t.Fatal(err)
						}
						p.Close()
						p.Exit()
					}
					var events []Event
					done := 0
					err = Run(ctx, k, plan, func(e Event) {
						if events = append(events, e); len(events) == n {
							cancel()
							done = acts(k)
						}
					})
					// A bind that has succeeded is the end, and no cancel changes it.
					if over = len(events) < n || events[n-1].Kind == EventProbe && events[n-1].Probe.Bindable(); over {
						return
					}
					var cancelled *CancelledError
					if !errors.As(err, &cancelled) || !errors.Is(err, context.Canceled) {
						t.Fatalf("cancelled at event %d of %v: error %v", n, kindsOf(events), err)
					}
					if last := events[len(events)-1]; last.Kind != EventCancelled {
						t.Errorf("cancelled at event %d: the last is %s", n, last.Kind)
					}
					if later := acts(k) - done; later != 0 {
						t.Errorf("cancelled at event %d of %v: %d acts followed", n, kindsOf(events), later)
					}
					sent := 0
					for _, call := range k.Calls() {
						if call.Op == "term" || call.Op == "kill" {
							sent++
						}
					}
					if told := strings.Count(err.Error(), " was sent to "); told != sent {
						t.Errorf("cancelled at event %d: %d signals were sent, and the error is %q", n, sent, err)
					}
					if left := k.Opened(); left != 0 {
						t.Errorf("cancelled at event %d: %d processes were not let go of", n, left)
					}
				})
				if over {
					if n < 3 {
						t.Errorf("only %d events", n-1)
					}
					return
				}
			}
		})
	}
}

// acts counts what changes something.
func acts(k scripted) int {
	n := 0
	for _, c := range k.Calls() {
		switch c.Op {
		case "term", "kill", "shutdown", "destroy":
			n++
		}
	}
	return n
}

func listenSocket() netstate.Socket {
	return netstate.Socket{State: netstate.Listen, Family: netstate.INET, Local: gateway.AddrPort(), ReuseAddr: netstate.Yes, ReusePort: netstate.No}
}

// TestNoListenerGoesDeaf: a listener is shut down only after everybody who
// shares it was sent SIGKILL, and listens again for one who came to share it.
func TestNoListenerGoesDeaf(t *testing.T) {
	for name, c := range map[string]struct {
		worker netstatetest.Behaviour
		joins  bool
		err    error
		shut   bool
	}{
		"all are killed":     {netstatetest.Behaviour{Kill: time.Second}, false, nil, true},
		"one may not be":     {netstatetest.Behaviour{Refuse: syscall.EPERM}, false, fs.ErrPermission, false},
		"one joined shortly": {netstatetest.Behaviour{Kill: time.Second}, true, ErrShared, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := scripted{netstatetest.New()}
				master := k.Start(netstate.Holder{Name: "master", UID: 1000}, netstatetest.Behaviour{Kill: time.Second})
				cookie := k.Add(listenSocket(), master)
				k.Share(cookie, k.Start(netstate.Holder{Name: "worker", UID: 1000}, c.worker))
				policy := DefaultPolicy()
				policy.Fast = true
				plan := planFor(t, k, policy)
				if c.joins {
					k.Share(cookie, k.Start(netstate.Holder{Name: "late", UID: 1000}, netstatetest.Behaviour{}))
				}
				err := Run(t.Context(), k, plan, func(Event) {})
				if !errors.Is(err, c.err) {
					t.Errorf("error %v, want %v", err, c.err)
				}
				var ops []string
				for _, call := range k.Calls() {
					if call.Op == "kill" || call.Op == "shutdown" || call.Op == "listen" {
						ops = append(ops, call.Op)
					}
				}
				want := []string{"kill", "kill"}
				if c.shut {
					want = append(want, "shutdown")
				}
				if c.joins {
					want = append(want, "listen")
				}
				if !slices.Equal(ops, want) {
					t.Errorf("calls %v, want %v", ops, want)
				}
			})
		})
	}
}

// TestRespawnBeforeTheFirstProbe: the new holder is there when the old one's
// end is seen, and is not stopped.
func TestRespawnBeforeTheFirstProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := after{scripted{netstatetest.New()}, make(chan struct{})}
		h := netstate.Holder{Name: "node", Cmdline: []string{"node", "server.js"}, UID: 1000, Parents: []netstate.Parent{{PID: 500, Name: "pm2"}}}
		var next *netstatetest.Process
		p := k.Start(h, netstatetest.Behaviour{OnExit: func() {
			next = k.Start(h, netstatetest.Behaviour{})
			if err := k.Listen(next, gateway); err != nil {
				t.Error(err)
			}
			close(k.first)
		}})
		if err := k.Listen(p, gateway); err != nil {
			t.Fatal(err)
		}
		var events []Event
		err := Run(t.Context(), k, planFor(t, k, DefaultPolicy()), func(e Event) { events = append(events, e) })
		if !errors.Is(err, ErrRespawned) || !strings.HasSuffix(err.Error(), "after the end of "+name(p.Holder())+" by pm2 500") {
			t.Errorf("error %v", err)
		}
		want := []EventKind{EventSignal, EventExit, EventProbe, EventRespawn}
		if got := kindsOf(events); !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		select {
		case <-next.Done():
			t.Error("the new one was stopped")
		default:
		}
	})
}

// after is a kernel that lets nothing be bound before something has happened.
type after struct {
	scripted
	first chan struct{}
}

func (k after) TryBind(spec netstate.BindSpec) netstate.Probe {
	<-k.first
	return k.scripted.TryBind(spec)
}

// TestFreedWhileExplained: the port is freed while the reason of the first
// refusal is still being looked for, and is seen at once.
func TestFreedWhileExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := slow{scripted{netstatetest.New()}}
		p := holding(k.Kernel, netstatetest.Behaviour{})
		time.AfterFunc(10*time.Millisecond, p.Exit)
		start := time.Now()
		err := WaitBindable(t.Context(), k, gateway, time.Minute, time.Minute, func(e Event) {
			if e.Kind == EventBindable && time.Since(start) != 10*time.Millisecond {
				t.Errorf("seen after %v", time.Since(start))
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// slow takes a second to explain, as with thousands of processes.
type slow struct{ scripted }

func (k slow) Why(ctx context.Context, spec netstate.BindSpec) (netstate.Verdict, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return netstate.Verdict{}, ctx.Err()
	}
	return k.scripted.Why(ctx, spec)
}

// TestStaleAmongTwo: if one of two targets is another program by now, neither
// is signalled.
func TestStaleAmongTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := scripted{netstatetest.New()}
		first := k.Start(netstate.Holder{Name: "node", UID: 1000}, netstatetest.Behaviour{})
		second := k.Start(netstate.Holder{Name: "worker", UID: 1000}, netstatetest.Behaviour{})
		k.Add(netstate.Socket{State: netstate.Listen, Family: netstate.INET, Local: gateway.AddrPort(), Inode: 7, ReuseAddr: netstate.Yes, ReusePort: netstate.No}, first, second)
		plan := planFor(t, k, DefaultPolicy())
		if len(plan.Targets()) != 2 {
			t.Fatalf("targets %v", plan.Targets())
		}
		old := second.Holder().ID
		second.Exit()
		k.Start(netstate.Holder{ID: netstate.ProcessID{PID: old.PID}, Name: "innocent"}, netstatetest.Behaviour{})
		err := Run(t.Context(), k, plan, func(Event) {})
		if !errors.Is(err, ErrStale) {
			t.Errorf("error %v", err)
		}
		for _, c := range k.Calls() {
			if c.Op == "term" || c.Op == "kill" {
				t.Errorf("a signal was sent: %+v", c)
			}
		}
	})
}

// TestWaitUntilSuccess is the path that the seed's reviewers asked for: the
// bind is refused several times and then allowed. Without events the interval
// alone must find it.
func TestWaitUntilSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := scripted{netstatetest.New()}
		p := holding(k.Kernel, netstatetest.Behaviour{})
		time.AfterFunc(time.Second, p.Exit)
		start := time.Now()
		probes := 0
		err := WaitBindable(t.Context(), asleep{k}, gateway, 3*time.Second, 150*time.Millisecond, func(e Event) {
			if e.Kind == EventProbe {
				probes++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 1050*time.Millisecond || probes != 8 {
			t.Errorf("%d probes in %v, want 8 in 1.05 s", probes, took)
		}
	})
}

// TestWaitIsWokenByTheKernel: with events there is one probe at the start and
// one when the socket ends, at that very moment.
func TestWaitIsWokenByTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := scripted{netstatetest.New()}
		p := holding(k.Kernel, netstatetest.Behaviour{})
		time.AfterFunc(time.Second, p.Exit)
		start := time.Now()
		probes := 0
		err := WaitBindable(t.Context(), k, gateway, time.Minute, time.Minute, func(e Event) {
			if e.Kind == EventProbe {
				probes++
			}
		})
		if took := time.Since(start); err != nil || took != time.Second || probes != 2 {
			t.Errorf("%d probes in %v (%v), want 2 in 1 s", probes, took, err)
		}
	})
}

func TestWaitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := scripted{netstatetest.New()}
		holding(k.Kernel, netstatetest.Behaviour{})
		start := time.Now()
		var last Event
		err := WaitBindable(t.Context(), k, gateway, 3*time.Second, 150*time.Millisecond, func(e Event) { last = e })
		var we *WaitError
		if !errors.As(err, &we) || !errors.Is(err, ErrTimeout) || we.Verdict.Reason != netstate.ReasonHeld {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != 3*time.Second || last.Kind != EventTimeout {
			t.Errorf("took %v, last event %s", took, last.Kind)
		}
	})
}

// TestUnrecoverable: every error but EADDRINUSE ends the wait at once.
func TestUnrecoverable(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EADDRNOTAVAIL, syscall.EINVAL} {
		synctest.Test(t, func(t *testing.T) {
			k := scripted{netstatetest.New()}
			k.Answer(errno, errno)
			start := time.Now()
			err := WaitBindable(t.Context(), k, gateway, 3*time.Second, 150*time.Millisecond, func(Event) {})
			if !errors.Is(err, errno) || time.Since(start) != 0 {
				t.Errorf("%v after %v: %v", errno, time.Since(start), err)
			}
		})
	}
}

// TestWaitForTimeWait sleeps to the end of the kernel's timer instead of
// asking all the time, and asks often when it is due.
func TestWaitForTimeWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := scripted{netstatetest.New()}
		k.Add(netstate.Socket{
			State: netstate.TimeWait, Family: netstate.INET, Local: gateway.AddrPort(), Remote: netip.MustParseAddrPort("127.0.0.1:50000"),
			Timer: netstate.TimerTimeWait, Expires: 10 * time.Second, ReuseAddr: netstate.No, ReusePort: netstate.No,
		})
		start := time.Now()
		probes := 0
		err := WaitBindable(t.Context(), k, gateway, time.Minute, time.Hour, func(e Event) {
			if e.Kind == EventProbe {
				probes++
			}
		})
		took := time.Since(start)
		if err != nil || took < 10*time.Second || took > 10*time.Second+3*time.Second || probes > 700 {
			t.Errorf("%d probes in %v (%v)", probes, took, err)
		}
	})
}

// TestInfeasibleSaysWhy names the missing right or the refusal.
func TestInfeasibleSaysWhy(t *testing.T) {
	v := refused(netstate.ReasonHeld, listening(process(800, "bash")))
	err := Run(t.Context(), nil, NewPlan(v, DefaultPolicy(), me()), func(Event) {})
	if err == nil || !strings.Contains(err.Error(), "bash 800 is an ancestor") {
		t.Errorf("error %v", err)
	}
}
