package netstate_test

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"berth/netstate"
	"berth/netstate/lab"
)

// TestEndOfTheTimer lets real timers of a closed connection run out, of one
// and two seconds in FIN-WAIT-2 as the system has it set, and compares the
// moment at which the bind succeeds with what was said at the first reading.
// TestPredictedEnd, which needs no right, measures that more closely.
func TestEndOfTheTimer(t *testing.T) {
	lab.NeedNamespace(t)
	for _, seconds := range []string{"1", "2"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fin_timeout", []byte(seconds), 0); err != nil {
			t.Skipf("needs a namespace whose tcp_fin_timeout may be set: %v", err)
		}
		sys, err := netstate.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer sys.Close()
		port, err := lab.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ln, err := lab.Listen(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), lab.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		conn, err := ln.Dial(lab.Route{})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Client.Close()
		ln.Close()
		if err := conn.Server.FinWait2(); err != nil {
			t.Fatal(err)
		}
		conn.Server.Close() // the client keeps its end open: FIN-WAIT-2 with a timer

		spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
		snap, err := sys.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sockets := snap.Port(port)
		if len(sockets) != 1 || sockets[0].State != netstate.FinWait2 || sockets[0].Timer != netstate.TimerTimeWait {
			t.Fatalf("sockets %+v", sockets)
		}
		said := snap.Clears(&sockets[0])
		// No event tells of this end, so binds do, a millisecond apart.
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		var freed time.Time
		for freed.IsZero() {
			select {
			case <-tick.C:
				if netstate.TryBind(spec).Bindable() {
					freed = time.Now()
				}
			case <-t.Context().Done():
				t.Fatal("the test was ended")
			}
			if time.Since(snap.At) > 10*time.Second {
				t.Fatal("still refused after 10 s")
			}
		}
		late := freed.Sub(said.From)
		t.Logf("tcp_fin_timeout %s s: free %v after the reading, %v after the predicted instant; exact %v", seconds, freed.Sub(snap.At), late, snap.Caps.Wheel.Exact())
		if late < -5*time.Millisecond {
			t.Errorf("free %v before the earliest end that was said", -late)
		}
		// Scheduling on a busy machine delays the probes, not the kernel.
		if !snap.Caps.Wheel.Exact() {
			t.Error("the exact end was not said")
		} else if late > 100*time.Millisecond {
			t.Errorf("free only %v after the exact end that was said", late)
		}
		if freed.After(said.Until.Add(100 * time.Millisecond)) {
			t.Errorf("free %v after the latest end that was said", freed.Sub(said.Until))
		}
	}
}
