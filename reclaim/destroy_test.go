package reclaim

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"berth/netstate"
	"berth/netstate/netstatetest"
)

// changing is a kernel in which connections go on closing between the reading
// and the destroying, as long as there are states for them: each becomes a
// socket of the next state, which the old cookie does not name.
type changing struct {
	scripted
	states *[]netstate.State
}

func (k changing) Destroy(ctx context.Context, spec netstate.BindSpec, sockets []netstate.Socket) (int, error) {
	if len(*k.states) > 0 {
		next := (*k.states)[0]
		*k.states = (*k.states)[1:]
		for _, s := range sockets {
			k.Remove(s.Cookie)
			k.Add(netstate.Socket{State: next, Local: s.Local, Remote: s.Remote, Timer: netstate.TimerTimeWait, Expires: time.Minute})
		}
	}
	return k.scripted.Destroy(ctx, spec, sockets)
}

// TestDestroyInRounds: a connection that has become another socket since it
// was read is read once more and destroyed as what it is by then, but one that
// comes back for ever is not hunted for ever.
func TestDestroyInRounds(t *testing.T) {
	for name, c := range map[string]struct {
		states []netstate.State
		rounds int
		freed  bool
	}{
		"stays as it is":    {nil, 1, true},
		"changes once":      {[]netstate.State{netstate.TimeWait}, 2, true},
		"changes twice":     {[]netstate.State{netstate.FinWait2, netstate.TimeWait}, 3, true},
		"never ends":        {slices.Repeat([]netstate.State{netstate.TimeWait}, 1000), destroyRounds, false},
		"comes back as one": {slices.Repeat([]netstate.State{netstate.FinWait2}, 1000), destroyRounds, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := changing{scripted{netstatetest.New()}, &c.states}
				k.Add(netstate.Socket{State: netstate.FinWait1, Local: gateway.AddrPort(), Remote: netip.MustParseAddrPort("127.0.0.1:50000")})
				v, err := k.Why(t.Context(), gateway)
				if err != nil {
					t.Fatal(err)
				}
				policy := DefaultPolicy()
				policy.Destroy = true
				self := me()
				self.Destroy = true
				var events []Event
				err = Run(t.Context(), k, NewPlan(v, policy, self), func(e Event) { events = append(events, e) })
				if (err == nil) != c.freed {
					t.Errorf("error %v, freed should be %v", err, c.freed)
				}
				rounds := 0
				for _, e := range events {
					if e.Kind == EventDestroyed {
						rounds++
					}
				}
				if rounds != c.rounds {
					t.Errorf("%d rounds, want %d: %v", rounds, c.rounds, kindsOf(events))
				}
			})
		})
	}
}
