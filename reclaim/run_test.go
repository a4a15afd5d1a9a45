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

// TestCancelAfterEachEvent cancels a run at every one of its events: no signal
// may follow, and the run must say that it was cancelled.
func TestCancelAfterEachEvent(t *testing.T) {
	const events = 3 // SIGTERM, SIGKILL, exit; the probe after them succeeds and ends the run
	for n := 1; n <= events; n++ {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k := scripted{netstatetest.New()}
			holding(k.Kernel, netstatetest.Behaviour{Term: netstatetest.Never, Kill: time.Second})
			plan := planFor(t, k, DefaultPolicy())
			var last Event
			seen, signals := 0, 0
			err := Run(ctx, k, plan, func(e Event) {
				last = e
				if seen++; seen == n {
					cancel()
					for _, c := range k.Calls() {
						if c.Op == "term" || c.Op == "kill" {
							signals++
						}
					}
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled at event %d: error %v", n, err)
			}
			if last.Kind != EventCancelled {
				t.Errorf("cancelled at event %d: the last event is %s", n, last.Kind)
			}
			for _, c := range k.Calls() {
				if c.Op == "term" || c.Op == "kill" {
					signals--
				}
			}
			if signals != 0 {
				t.Errorf("cancelled at event %d: %d signals followed", n, -signals)
			}
			if n := k.Opened(); n != 0 {
				t.Errorf("%d processes were not let go of", n)
			}
		})
	}
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
