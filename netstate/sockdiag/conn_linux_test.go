package sockdiag

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func dial(t testing.TB) *Conn {
	t.Helper()
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// find dumps one port and returns copies of its records.
func find(t testing.TB, c *Conn, q Query) []Record {
	t.Helper()
	var all []Record
	if err := c.Dump(q, func(r *Record) bool { all = append(all, *r); return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

func listen(t testing.TB, network string) *net.TCPListener {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "tcp6" {
		addr = "[::1]:0"
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

func TestDumpSeesListenersOfBothFamilies(t *testing.T) {
	c := dial(t)
	for _, network := range []string{"tcp4", "tcp6"} {
		ln := listen(t, network)
		port := uint16(ln.Addr().(*net.TCPAddr).Port)
		all := find(t, c, Query{States: AllStates, Port: port})
		if len(all) != 1 {
			t.Fatalf("%s: %d records on port %d, want 1: %+v", network, len(all), port, all)
		}
		r := all[0]
		if r.State != 10 || r.LocalPort != port || r.Inode == 0 || r.Cookie == 0 || int(r.UID) != os.Getuid() {
			t.Errorf("%s: %+v", network, r)
		}
		if r.HasV6Only != (network == "tcp6") {
			t.Errorf("%s: v6only told: %v", network, r.HasV6Only)
		}
		raw, err := ln.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			var st unix.Stat_t
			if err := unix.Fstat(int(fd), &st); err != nil || st.Ino != uint64(r.Inode) {
				t.Errorf("%s: inode %d, want %d (%v)", network, r.Inode, st.Ino, err)
			}
			if cookie, err := unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE); err != nil || cookie != r.Cookie {
				t.Errorf("%s: cookie %d, want %d (%v)", network, r.Cookie, cookie, err)
			}
		})
	}
}

func TestDumpStopsWhenAsked(t *testing.T) {
	c := dial(t)
	for range 3 {
		listen(t, "tcp4")
	}
	n := 0
	if err := c.Dump(Query{States: AllStates}, func(*Record) bool { n++; return false }); err != nil {
		t.Fatal(err)
	}
	if n != 1 {
		t.Errorf("visited %d sockets after false", n)
	}
	// The connection must be in step again for the next dump.
	if all := find(t, c, Query{States: StateListen}); len(all) < 3 {
		t.Errorf("the next dump saw %d listeners", len(all))
	}
}

// TestDumpDoesNotAllocate pins the promise of the package doc.
func TestDumpDoesNotAllocate(t *testing.T) {
	c := dial(t)
	for range 20 {
		listen(t, "tcp4")
	}
	n := 0
	visit := func(*Record) bool { n++; return true }
	allocs := testing.AllocsPerRun(10, func() {
		n = 0
		if err := c.Dump(Query{States: AllStates}, visit); err != nil {
			t.Fatal(err)
		}
	})
	if n < 20 || allocs > 2 {
		t.Errorf("%v allocations for %d sockets", allocs, n)
	}
}

func TestEventsReportTheEnd(t *testing.T) {
	events, err := Subscribe(TCP)
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t, "tcp4")
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	seen := make(chan Record, 1)
	done := make(chan error, 1)
	go func() {
		for {
			err := events.Next(func(r *Record) {
				if r != nil && r.LocalPort == port {
					select {
					case seen <- *r:
					default:
					}
				}
			})
			if err != nil {
				done <- err
				return
			}
		}
	}()
	ln.Close()
	select {
	case <-seen:
	case <-time.After(5 * time.Second):
		t.Error("the end of a listener was not reported within 5 s")
	}
	events.Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next ended with %v, want %v", err, os.ErrClosed)
	}
}

// TestDestroyTimeWait needs CAP_NET_ADMIN: it makes a TIME-WAIT socket,
// destroys it by its cookie, and sees it gone; a second time must fail.
func TestDestroyTimeWait(t *testing.T) {
	ln := listen(t, "tcp4")
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	client, err := net.DialTCP("tcp4", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close() // the first to close keeps TIME-WAIT
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	client.Close()

	c := dial(t)
	all := find(t, c, Query{States: 1 << 6, Port: port})
	if len(all) != 1 {
		t.Fatalf("%d TIME-WAIT sockets, want 1", len(all))
	}
	if all[0].Timer != 3 || all[0].ExpiresMS == 0 || all[0].ExpiresMS > 60000 {
		t.Errorf("timer %d with %d ms left", all[0].Timer, all[0].ExpiresMS)
	}
	err = c.Destroy(&all[0])
	if errors.Is(err, unix.EPERM) {
		t.Skip("destroying a socket needs CAP_NET_ADMIN")
	}
	if err != nil {
		t.Fatal(err)
	}
	if left := find(t, c, Query{States: 1 << 6, Port: port}); len(left) != 0 {
		t.Errorf("it is still there: %+v", left)
	}
	if err := c.Destroy(&all[0]); !errors.Is(err, unix.ENOENT) {
		t.Errorf("destroyed twice: %v, want %v", err, unix.ENOENT)
	}
}

func BenchmarkDumpListen(b *testing.B) {
	c := dial(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Dump(Query{States: StateListen}, func(*Record) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDumpAll(b *testing.B) {
	c := dial(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Dump(Query{States: AllStates}, func(*Record) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
}

// TestConnsAreIndependent lets the race detector look at two connections that
// dump at the same time.
func TestConnsAreIndependent(t *testing.T) {
	var wg sync.WaitGroup
	for range 2 {
		c := dial(t)
		wg.Go(func() {
			for range 20 {
				if err := c.Dump(Query{States: StateListen}, func(*Record) bool { return true }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
