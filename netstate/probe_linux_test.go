package netstate_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
)

// nobody is a user without any right.
const nobody = 65534

// A bind as another user shares a port with that user's server, not with
// one's own, and may not have a low port. No thread keeps that user.
func TestBindAsUser(t *testing.T) {
	lab.NeedNamespace(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to bind as another user")
	}
	listener := listenAs(t, nobody, "127.0.0.1:0")
	spec := netstate.NewBindSpec(listener.Addr(), listener.Port())
	spec.ReusePort = true
	for _, c := range []struct {
		uid  uint32
		port uint16
		want error
	}{
		{0, listener.Port(), syscall.EADDRINUSE},
		{nobody, listener.Port(), nil},
		{1000, listener.Port(), syscall.EADDRINUSE},
		{0, 81, nil},
		{nobody, 81, syscall.EACCES},
	} {
		spec.UID, spec.Port = c.uid, c.port
		if p := netstate.TryBind(spec); !errors.Is(p.Err, c.want) {
			t.Errorf("port %d as uid %d: %v, want %v", c.port, c.uid, p.Err, c.want)
		}
		threadsAreRoot(t)
	}
}

// listenAs listens with SO_REUSEPORT as a user, and returns where.
func listenAs(t *testing.T, uid int, addr string) netip.AddrPort {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _ = unix.SetfsuidRetUid(uid)
	s, err := lab.Listen(netip.MustParseAddrPort(addr), lab.Options{ReuseAddr: true, ReusePort: true})
	_, _ = unix.SetfsuidRetUid(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.Addr()
}

// threadsAreRoot compares what /proc says of every thread: its fsuid and its
// effective capabilities are those of the others.
func threadsAreRoot(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		t.Fatal("no threads", err)
	}
	caps := ""
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for line := range strings.Lines(string(b)) {
			field := strings.Fields(line)
			if len(field) == 5 && field[0] == "Uid:" && field[4] != "0" {
				t.Errorf("%s has fsuid %s", f, field[4])
			}
			if len(field) == 2 && field[0] == "CapEff:" {
				if caps == "" {
					caps = field[1]
				}
				if field[1] != caps {
					t.Errorf("%s has the capabilities %s, others have %s", f, field[1], caps)
				}
			}
		}
	}
}

// Without the right, the answer is that the bind cannot be made, not that it
// would be refused.
func TestMayBind(t *testing.T) {
	me := uint32(os.Geteuid())
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), 4998)
	if err := netstate.MayBind(spec); err != nil {
		t.Errorf("as oneself: %v", err)
	}
	spec.UID = nobody - 1
	err := netstate.MayBind(spec)
	if me == 0 && err != nil || me != 0 && !errors.Is(err, os.ErrPermission) {
		t.Errorf("as another user: %v", err)
	}
}

// An IPv4-mapped host is bound by an AF_INET6 socket and is written so.
func TestMappedHost(t *testing.T) {
	lab.NeedNamespace(t)
	addr, err := netstate.ResolveHost(t.Context(), "[::ffff:127.0.0.1]")
	if err != nil {
		t.Fatal(err)
	}
	spec := netstate.NewBindSpec(addr, 4999)
	if got := spec.String(); got != "[::ffff:127.0.0.1]:4999" {
		t.Errorf("it is written %s", got)
	}
	if p := netstate.TryBind(spec); p.Err != nil {
		t.Error(p.Err)
	}
	spec.V6Only = true // which only an AF_INET6 socket can have
	if p := netstate.TryBind(spec); !errors.Is(p.Err, syscall.EINVAL) {
		t.Errorf("with IPV6_V6ONLY: %v, want EINVAL", p.Err)
	}
}
