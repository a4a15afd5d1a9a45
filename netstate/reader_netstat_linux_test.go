package netstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cakturk/go-netstat/netstat"
	"golang.org/x/sys/unix"

	"berth/netstate/lab"
)

func TestNetstatReadsEachState(t *testing.T) {
	lab.NeedNamespace(t)
	b, err := openNetstat(TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, host := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		for _, name := range lab.States() {
			t.Run(name+" "+host, func(t *testing.T) {
				if _, err := os.Stat("/proc/net/tcp6"); err != nil && host != "127.0.0.1" {
					t.Skip("needs IPv6")
				}
				port, err := lab.FreePort()
				if err != nil {
					t.Fatal(err)
				}
				scene, err := lab.Make(name, netip.AddrPortFrom(netip.MustParseAddr(host), port), lab.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer scene.Close()
				want, err := ParseState(name)
				if err != nil {
					t.Fatal(err)
				}
				all, err := b.read(context.Background(), 0, nil)
				if err != nil {
					t.Fatal(err)
				}
				all = slices.DeleteFunc(all, func(s Socket) bool { return s.Local.Port() != port })
				if want == Bound {
					// The kernel's text table does not list it, and caps says so.
					if len(all) != 0 || b.caps().Bound {
						t.Errorf("listed %+v, caps %+v", all, b.caps())
					}
					return
				}
				if len(all) != 1 {
					t.Fatalf("listed %+v, expected one socket", all)
				}
				s := all[0]
				if s.State != want || s.Local != scene.Local || s.Remote != scene.Remote {
					t.Errorf("%v %v → %v, want %v %v → %v", s.State, s.Local, s.Remote, want, scene.Local, scene.Remote)
				}
				if v4 := host == "127.0.0.1"; v4 != (s.Family == INET) {
					t.Errorf("family %v of a socket at %s", s.Family, host)
				}
				if want == TimeWait {
					if s.PID != 0 || s.UIDKnown {
						t.Errorf("pid %d, uid known %v, though it belongs to nobody", s.PID, s.UIDKnown)
					}
					return
				}
				if s.PID != os.Getpid() || !s.UIDKnown || s.UID != uint32(os.Geteuid()) {
					t.Errorf("pid %d, uid %d (known %v); this is process %d of %d", s.PID, s.UID, s.UIDKnown, os.Getpid(), os.Geteuid())
				}
				owners, err := b.owners(context.Background(), all)
				if err != nil {
					t.Fatal(err)
				}
				if hs := owners.Of(&s); len(hs) != 1 || hs[0].ID.PID != os.Getpid() || len(hs[0].Cmdline) == 0 {
					t.Errorf("holders %+v", hs)
				}
			})
		}
	}
}

func TestNetstatOrphanBelongsToNobody(t *testing.T) {
	lab.NeedNamespace(t)
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	scene, err := lab.Make("FIN-WAIT-2", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer scene.Close()
	scene.Socket.Close()
	all, err := netstatBackend{}.read(context.Background(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s Socket) bool { return s.Local == scene.Local })
	if i < 0 || all[i].State != FinWait2 || all[i].Owned() {
		t.Errorf("listed %+v", all)
	}
}

func TestNetstatUID(t *testing.T) {
	for _, c := range []struct {
		state State
		uid   uint32
		pid   int
		known bool
	}{
		{TimeWait, 0, 0, false},
		{TimeWait, 1000, 0, false}, // never so from the kernel
		{Listen, 0, 0, true},       // root's, with a process that may not be seen
		{Listen, 1000, 0, true},
		{Established, 1000, 0, true},
		{Established, 0, 4211, true},
		{Established, 0, 0, false}, // root's, or nobody's: an orphan, or not accepted yet
		{FinWait2, 0, 0, false},
	} {
		uid, known := netstatUID(&netstat.SockTabEntry{UID: c.uid}, &Socket{State: c.state, PID: c.pid})
		if known != c.known || known && uid != c.uid {
			t.Errorf("%v uid %d pid %d: %d, %v", c.state, c.uid, c.pid, uid, known)
		}
	}
}

func TestNetstatStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (netstatBackend{}).read(ctx, 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, expected context.Canceled", err)
	}
}

func TestNetstatWithoutProc(t *testing.T) {
	result := make(chan error)
	go func() {
		// Never unlocked: the thread, whose file system is its own from here
		// on, ends with the goroutine.
		runtime.LockOSThread()
		if err := hideProc(); err != nil {
			result <- fmt.Errorf("%w: %w", errNoMountNamespace, err)
			return
		}
		_, err := openNetstat(TCP)
		result <- err
	}()
	err := <-result
	if errors.Is(err, errNoMountNamespace) {
		t.Skip("needs a mount namespace (CAP_SYS_ADMIN): ", err)
	}
	var op *OpError
	if !errors.As(err, &op) || !errors.Is(err, fs.ErrNotExist) || op.Hint == "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, expected an OpError that is fs.ErrNotExist and has a hint", err)
	}
}

var errNoMountNamespace = errors.New("no mount namespace")

// hideProc puts an empty file system over /proc, for this thread only.
func hideProc() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount private /", err)
	}
	return os.NewSyscallError("mount tmpfs", unix.Mount("none", "/proc", "tmpfs", 0, ""))
}
