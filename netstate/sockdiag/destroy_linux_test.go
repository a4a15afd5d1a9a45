package sockdiag

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// needDestroy skips without CAP_NET_ADMIN over the test's own namespace.
func needDestroy(tb testing.TB) {
	tb.Helper()
	lab.NeedNamespace(tb)
	if os.Getuid() != 0 {
		tb.Skip("destroying a socket needs CAP_NET_ADMIN")
	}
}

// timeWaits makes n TIME-WAIT sockets on one port and returns the port.
func timeWaits(tb testing.TB, n int) uint16 {
	tb.Helper()
	l, err := lab.Listen(netip.MustParseAddrPort("127.0.0.1:0"), lab.Options{ReuseAddr: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	for i := range n {
		// A port of its own for each: a new connection from one that was used
		// before would take the place of what that has left.
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, 1}), uint16(10000+i))
		c, err := l.Dial(lab.Route{From: from})
		if err != nil {
			tb.Fatal(err)
		}
		if err := c.Server.TimeWait(); err != nil {
			tb.Fatal(err)
		}
	}
	return l.Addr().Port()
}

const timeWaitState = 1 << 6

func TestDestroyAll(t *testing.T) {
	needDestroy(t)
	const n = 2*destroyBatch + 3
	port := timeWaits(t, n)
	c := dial(t)
	all := find(t, c, Query{States: timeWaitState, Port: port})
	if len(all) != n {
		t.Fatalf("%d TIME-WAIT sockets, want %d", len(all), n)
	}
	// One that is gone already counts as ended.
	if err := c.Destroy(&all[5]); err != nil {
		t.Fatal(err)
	}
	if ended, err := c.DestroyAll(all); ended != n || err != nil {
		t.Errorf("%d ended: %v", ended, err)
	}
	if left := find(t, c, Query{States: timeWaitState, Port: port}); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
	if ended, err := c.DestroyAll(all); ended != n || err != nil {
		t.Errorf("the second time: %d ended: %v", ended, err)
	}
	if ended, err := c.DestroyAll(nil); ended != 0 || err != nil {
		t.Errorf("none: %d ended: %v", ended, err)
	}
}

// TestDestroyAllStopsAtARefusal: what the kernel does not know as a family is
// refused, and the count says how far it got.
func TestDestroyAllStopsAtARefusal(t *testing.T) {
	needDestroy(t)
	port := timeWaits(t, 10)
	c := dial(t)
	all := find(t, c, Query{States: timeWaitState, Port: port})
	all[4].Family = 77
	ended, err := c.DestroyAll(all)
	if ended != 4 || err == nil {
		t.Errorf("%d ended: %v, want 4 and an error", ended, err)
	}
	// The connection is in step for the next request.
	if left := find(t, c, Query{States: timeWaitState, Port: port}); len(left) == 10 {
		t.Errorf("nothing was destroyed")
	}
}

func TestDestroyAllWithoutTheRight(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("needs an ordinary user")
	}
	lab.NeedNamespace(t)
	port := timeWaits(t, 3)
	c := dial(t)
	ended, err := c.DestroyAll(find(t, c, Query{States: timeWaitState, Port: port}))
	if ended != 0 || !errors.Is(err, unix.EPERM) {
		t.Errorf("%d ended: %v, want %v", ended, err, unix.EPERM)
	}
}

// BenchmarkDestroyTimeWait compares the destruction of 10,000 TIME-WAIT
// sockets with a dump of them.
func BenchmarkDestroyTimeWait(b *testing.B) {
	needDestroy(b)
	const n = 10000
	c := dial(b)
	var ratios []float64
	for b.Loop() {
		b.StopTimer()
		port := timeWaits(b, n)
		var all []Record
		dump := time.Hour
		for range 5 {
			all = all[:0]
			start := time.Now()
			if err := c.Dump(Query{States: AllStates}, func(r *Record) bool { all = append(all, *r); return true }); err != nil {
				b.Fatal(err)
			}
			dump = min(dump, time.Since(start))
		}
		all = slices.DeleteFunc(all, func(r Record) bool { return r.State != 6 || r.LocalPort != port })
		// One connection in some hundred thousand leaves no TIME-WAIT, for a
		// reason that was not found. The ratio does not hang on it.
		if len(all) < n-n/1000 {
			b.Fatalf("%d TIME-WAIT sockets, want %d", len(all), n)
		}
		b.StartTimer()
		start := time.Now()
		if ended, err := c.DestroyAll(all); ended != len(all) || err != nil {
			b.Fatalf("%d ended: %v", ended, err)
		}
		ratios = append(ratios, float64(time.Since(start))/float64(dump))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "×dump")
}
