package reclaim_test

import (
	"context"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"berth/netstate"
	"berth/reclaim"
)

// meddling does something between the reading of what lingers and its end.
type meddling struct {
	*reclaim.System
	meddle func()
}

func (k *meddling) Destroy(ctx context.Context, spec netstate.BindSpec, sockets []netstate.Socket) (int, error) {
	if k.meddle != nil {
		k.meddle()
		k.meddle = nil
	}
	return k.System.Destroy(ctx, spec, sockets)
}

// connections are two of a server without SO_REUSEADDR that no longer listens.
// The first is in FIN-WAIT-1: it was closed before its client had read what was
// sent. The second is open.
type connections struct {
	spec   netstate.BindSpec
	client net.Conn // of the first
	second net.Conn // the server's end
}

func connected(t *testing.T) connections {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if err := syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0); err != nil {
				t.Error(err)
			}
		})
	}}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pair := func() (client, server net.Conn) {
		if client, err = net.Dial("tcp4", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		if server, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		return client, server
	}
	client, server := pair()
	_, second := pair()
	// Until neither the client's buffer nor the server's takes any more.
	for chunk := make([]byte, 1<<20); err == nil; {
		if err := server.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err = server.Write(chunk)
	}
	server.Close()
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	return connections{netstate.NewBindSpec(at.Addr(), at.Port()), client, second}
}

// lingering leaves out of a verdict what a process holds, as if it had been
// made when that was gone.
func lingering(v netstate.Verdict) netstate.Verdict {
	v.Blockers = slices.DeleteFunc(v.Blockers, func(b netstate.Blocker) bool { return b.Socket.Owned() })
	return v
}

// TestDestroyWhatItHasBecome: between the reading and the destroying the peer
// takes what it was sent, and the connection goes on to FIN-WAIT-2; and a
// second one, which somebody had open when it was read, is closed.
func TestDestroyWhatItHasBecome(t *testing.T) {
	c := connected(t)
	k := &meddling{System: machine(t)}
	v := lingering(why(t, k, c.spec))
	if len(v.Blockers) != 1 || v.Blockers[0].Socket.State != netstate.FinWait1 {
		t.Fatalf("the first connection is not closing: %s", v.Summary)
	}
	policy := reclaim.DefaultPolicy()
	policy.Destroy = true
	self := reclaim.CurrentSelf(t.Context())
	if !self.Destroy {
		t.Skip("destroying a socket needs CAP_NET_ADMIN")
	}
	k.meddle = func() {
		buf := make([]byte, 1<<20)
		for { // there is no event for the change of a state but what it does
			if err := c.client.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			_, _ = c.client.Read(buf)
			now := lingering(why(t, k, c.spec))
			if len(now.Blockers) != 1 {
				t.Fatalf("what has become of it: %s", now.Summary)
			}
			if now.Blockers[0].Socket.State == netstate.FinWait2 {
				break
			}
		}
		c.second.Close()
	}
	var l log
	if err := reclaim.Run(t.Context(), k, reclaim.NewPlan(v, policy, self), l.on); err != nil {
		now := why(t, k, c.spec)
		t.Fatalf("%v after %v; left are %+v", err, l.kinds(), now.Blockers)
	}
	var counts []int
	for _, e := range l.events {
		if e.Kind == reclaim.EventDestroyed {
			counts = append(counts, e.Count)
		}
	}
	if !slices.Equal(counts, []int{1, 1}) {
		t.Errorf("destroyed %v, want one in each of two rounds", counts)
	}
	want := []reclaim.EventKind{reclaim.EventDestroyed, reclaim.EventProbe, reclaim.EventBindable}
	if got := l.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}
