package netstate

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate/lab"
)

// The proof that the end of TIME-WAIT is known takes the 60 s that it lasts:
//
//	go test ./netstate -run PredictedEnd -v -args -long
var long = flag.Bool("long", false, "also wait for real TIME-WAIT sockets to end, which takes a minute and more")

// TestPredictedEnd holds what is said of the end of a timer against the end.
// It needs no right: a program may choose how long its own sockets stay in
// FIN-WAIT-2 (TCP_LINGER2), but only the kernel chooses for TIME-WAIT.
func TestPredictedEnd(t *testing.T) {
	lab.NeedNamespace(t)
	t.Run("FIN-WAIT-2", func(t *testing.T) {
		t.Parallel()
		predictedEnds(t, 12, 90*time.Millisecond, false, func(i int, c *lab.Conn) (time.Duration, error) {
			seconds := 1 + i%2
			if err := c.Server.FinWait2(); err != nil {
				return 0, err
			}
			if err := unix.SetsockoptInt(c.Server.FD(), unix.IPPROTO_TCP, unix.TCP_LINGER2, seconds); err != nil {
				return 0, err
			}
			return time.Duration(seconds) * time.Second, c.Server.Close() // the client keeps its end open
		})
	})
	t.Run("TIME-WAIT", func(t *testing.T) {
		if !*long {
			t.Skip("needs -args -long, and more than a minute")
		}
		t.Parallel()
		predictedEnds(t, 20, 263*time.Millisecond, true, func(_ int, c *lab.Conn) (time.Duration, error) {
			return timeWaitLen, c.Server.TimeWait()
		})
	})
}

// ending is a socket that only a timer ends, and what was said of that.
type ending struct {
	spec   BindSpec
	cookie uint64
	length time.Duration // of its timer
	said   Clears
	blind  Clears // without the counter
	list   Clears // with the counter from /proc/timer_list; zero for an ordinary user

	// The last bind that was refused began at refused, the first that was not
	// was over at freed: the kernel ended the socket in between.
	refused, freed time.Time
}

// predictedEnds makes n sockets, every so often one, each on a port of its own
// and with a timer of its own, and checks the end of each. On a machine that
// is too busy to run the probes in time, the end is known less exactly than it
// was predicted, which is an error only if strict is set.
func predictedEnds(t *testing.T, n int, every time.Duration, strict bool, end func(i int, c *lab.Conn) (time.Duration, error)) {
	hz := coarseHZ()
	if hz == 0 {
		t.Fatal("no HZ")
	}
	// tolerance is what a prediction may be wrong by, 5 ms at HZ=250. Most of
	// it is one tick: a CPU whose tick comes just before another's has advanced
	// the counter finds a timer due only at its next.
	tick := time.Second / time.Duration(hz)
	tolerance := tick + time.Millisecond
	if !ticksAligned() {
		tolerance += tick
	}
	sys, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	timerList := newJiffyClock(hz, func(uint64) (uint64, bool) { return timerListJiffies() })

	var wg sync.WaitGroup
	defer wg.Wait()
	all := make([]*ending, n)
	next := time.NewTicker(every)
	defer next.Stop()
	for i := range all {
		ln, err := lab.Listen(netip.MustParseAddrPort("127.0.0.1:0"), lab.Options{})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := ln.Dial(lab.Route{})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Client.Close()
		ln.Close()
		e := &ending{spec: NewBindSpec(ln.Addr().Addr(), ln.Addr().Port())}
		if e.length, err = end(i, conn); err != nil {
			t.Fatal(err)
		}
		snap, err := sys.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sockets := snap.Port(e.spec.Port)
		if len(sockets) != 1 || sockets[0].Timer != TimerTimeWait {
			t.Fatalf("sockets %+v", sockets)
		}
		e.cookie = sockets[0].Cookie
		e.said = e.clears(snap.Caps.Wheel, snap, &sockets[0])
		w := *snap.Caps.Wheel
		w.edge = time.Time{}
		e.blind = e.clears(&w, snap, &sockets[0])
		var ok bool
		if w.jiffies, w.edge, ok = timerList.read(); ok {
			e.list = e.clears(&w, snap, &sockets[0])
		}
		if !snap.Caps.Wheel.Exact() {
			t.Fatal("the counter cannot be read")
		}
		all[i] = e
		wg.Go(func() { e.watch(t.Context()) })
		<-next.C
	}

	// The same must be said whenever it is asked.
	done := make(chan struct{})
	go func() { defer close(done); wg.Wait() }()
	again, asked, two := time.NewTicker(97*time.Millisecond), 0, 0
	defer again.Stop()
	for ended := false; !ended; {
		select {
		case <-again.C:
		case <-done:
			ended = true
		}
		snap, err := sys.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			for _, s := range snap.Port(e.spec.Port) {
				if s.Cookie != e.cookie {
					continue
				}
				asked++
				c := e.clears(snap.Caps.Wheel, snap, &s)
				// Two answers are allowed at the edge of a slot; the truth must
				// be one of them.
				if e.said.From.Sub(c.Until) > tolerance || c.From.Sub(e.said.Until) > tolerance {
					t.Errorf("port %d: %v left of its timer, ends from %v until %v after the first prediction", e.spec.Port, s.Expires, c.From.Sub(e.said.From), c.Until.Sub(e.said.From))
				}
				if c.Until.Sub(c.From) > tolerance {
					two++
				}
			}
		}
	}

	late, slots := make([]time.Duration, 0, n), map[time.Duration]bool{}
	for i, e := range all {
		if e.freed.IsZero() {
			t.Fatalf("port %d was not freed in time", e.spec.Port)
		}
		known := "since when is not known"
		if !e.refused.IsZero() {
			known = fmt.Sprintf("known to %.2f ms", millis(e.freed.Sub(e.refused)))
		}
		slots[e.said.From.Sub(all[0].said.From).Round(tolerance)] = true
		late = append(late, e.freed.Sub(e.said.From))
		t.Logf("%2d: timer of %v, free %v after it was due and %.2f ms after the end that was said, %s",
			i, e.length, e.freed.Sub(e.blind.From).Round(time.Millisecond), millis(late[i]), known)
		if !e.said.From.Equal(e.said.Until) {
			t.Logf("%2d: two ends were said, %v apart", i, e.said.Until.Sub(e.said.From))
		}
		if late[i] < 0 {
			t.Errorf("%d: free %v before the end that was said", i, -late[i])
		}
		if after := e.refused.Sub(e.said.Until); after > tolerance {
			t.Errorf("%d: still refused %v after the end that was said", i, after)
		}
		if strict && e.freed.Sub(e.said.Until) > tolerance {
			t.Errorf("%d: not known to be free until %v after the end that was said", i, e.freed.Sub(e.said.Until))
		}
		if e.freed.Before(e.blind.From) || e.refused.After(e.blind.Until.Add(tolerance)) {
			t.Errorf("%d: free %v after its timer was due; without the counter it is said to take at most %v", i, e.freed.Sub(e.blind.From), e.blind.Until.Sub(e.blind.From))
		}
		if e.list != (Clears{}) && (e.list.From.Sub(e.said.From).Abs() > time.Millisecond || e.list.Until.Sub(e.said.Until).Abs() > time.Millisecond) {
			t.Errorf("%d: by /proc/timer_list it ends %v later", i, e.list.From.Sub(e.said.From))
		}
	}
	slices.Sort(late)
	list := "is not readable"
	if all[0].list != (Clears{}) {
		list = "says the same"
	}
	t.Logf("%d ends in %d slots: worst %.2f ms, median %.2f ms; asked %d times more, %d times with two answers; /proc/timer_list %s",
		n, len(slots), millis(late[n-1]), millis(late[n/2]), asked, two, list)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// clears is what is said of a socket whose timer was started for e.length,
// without what may come after FIN-WAIT-2 if the peer closes in the last moment.
func (e *ending) clears(w *Wheel, snap *Snapshot, s *Socket) Clears {
	if s.State == TimeWait {
		return w.Clears(s, snap.At)
	}
	return w.clears(snap.At, s.Expires, e.length)
}

// watch waits until shortly before the end that was said and then binds, a
// quarter of a millisecond apart, until that succeeds.
func (e *ending) watch(ctx context.Context) {
	const early, most = 20 * time.Millisecond, 10 * time.Second
	timer := time.NewTimer(time.Until(e.said.From.Add(-early)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil && time.Since(e.said.Until) < most {
		p := TryBind(e.spec)
		if p.Bindable() {
			e.freed = p.At.Add(p.Took)
			return
		}
		e.refused = p.At
		// The runtime's own timers are a millisecond apart.
		pause := unix.NsecToTimespec(int64(200 * time.Microsecond))
		_ = unix.Nanosleep(&pause, nil)
	}
}
