package reclaim

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"berth/netstate"
	"berth/netstate/netstatetest"
)

// TestDraining: a holder that lets the port go and goes on with its work is
// not killed, since the port was all that was wanted; but one that only opens
// its listener anew has not let it go.
func TestDraining(t *testing.T) {
	const close = 100 * time.Millisecond
	drains := netstatetest.Behaviour{Close: close, Term: time.Minute}
	own := []string{"node", "gateway.js"}
	for name, c := range map[string]struct {
		does   netstatetest.Behaviour
		change func(*Policy)
		blind  bool // the kernel reports nothing
		events []EventKind
		err    error
		took   time.Duration
	}{
		"goes on": {does: drains, events: []EventKind{EventSignal, EventDraining, EventProbe, EventBindable}, took: close + settleTime},
		"is not to be killed": {does: drains, change: func(p *Policy) { p.NoKill = true },
			events: []EventKind{EventSignal, EventDraining, EventProbe, EventBindable}, took: close + settleTime},
		"without events": {does: drains, blind: true, events: []EventKind{EventSignal, EventDraining, EventProbe, EventBindable}, took: 150*time.Millisecond + settleTime},
		"ends soon after": {does: netstatetest.Behaviour{Close: close, Term: close + settleTime/2},
			events: []EventKind{EventSignal, EventExit, EventProbe, EventBindable}, took: close + settleTime/2},
		"is the gateway itself": {does: drains, change: func(p *Policy) { p.Own = own },
			events: []EventKind{EventSignal, EventDraining, EventProbe, EventBindable}, took: 3 * time.Second},
		"is the gateway and ends": {does: netstatetest.Behaviour{Close: close, Term: time.Second}, change: func(p *Policy) { p.Own = own },
			events: []EventKind{EventSignal, EventDraining, EventExit, EventProbe, EventBindable}, took: time.Second},
		"lets it go at the end": {does: netstatetest.Behaviour{Close: 3*time.Second - settleTime/2, Term: time.Minute},
			events: []EventKind{EventSignal, EventDraining, EventProbe, EventBindable}, took: 3 * time.Second},
		"is what is to end": {does: drains, change: func(p *Policy) { p.Ends = true },
			events: []EventKind{EventSignal, EventSignal, EventExit}, took: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := scripted{netstatetest.New()}
				k.NoWake = c.blind
				p := k.Start(netstate.Holder{Name: "node", Cmdline: own, UID: 1000}, c.does)
				if err := k.Listen(p, gateway); err != nil {
					t.Fatal(err)
				}
				policy := DefaultPolicy()
				if c.change != nil {
					c.change(&policy)
				}
				var events []Event
				start := time.Now()
				err := Run(t.Context(), k, planFor(t, k, policy), func(e Event) { events = append(events, e) })
				if took := time.Since(start); !errors.Is(err, c.err) || took != c.took {
					t.Errorf("error %v after %v, want %v after %v", err, took, c.err, c.took)
				}
				if got := kindsOf(events); !slices.Equal(got, slices.Compact(c.events)) {
					t.Errorf("events %v, want %v", got, c.events)
				}
				if !slices.IsSortedFunc(events, func(a, b Event) int { return a.At.Compare(b.At) }) {
					t.Errorf("events out of the order of their times: %+v", events)
				}
				if n := k.Opened(); n != 0 {
					t.Errorf("%d processes were not let go of", n)
				}
				p.Exit()
			})
		})
	}
}

// TestReloadIsNoEnd: a server that closes its listener and opens another, as
// many do at SIGHUP, has the port still, and gets its whole grace.
func TestReloadIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := scripted{netstatetest.New()}
		p := holding(k.Kernel, netstatetest.Behaviour{Close: 100 * time.Millisecond, Term: netstatetest.Never})
		time.AfterFunc(100*time.Millisecond+settleTime/2, func() {
			if err := k.Listen(p, gateway); err != nil {
				t.Error(err)
			}
		})
		var events []Event
		start := time.Now()
		policy := DefaultPolicy()
		policy.NoKill = true
		err := Run(t.Context(), k, planFor(t, k, policy), func(e Event) { events = append(events, e) })
		if took := time.Since(start); !errors.Is(err, ErrSurvived) || took != 3*time.Second {
			t.Errorf("error %v after %v: %v", err, took, kindsOf(events))
		}
	})
}
