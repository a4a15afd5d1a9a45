package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/netstate/lab"
	"berth/netstate/netns"
)

func TestMain(m *testing.M) { lab.Main(m) }

// needRoot skips a test that makes or enters a namespace.
func needRoot(t *testing.T) {
	t.Helper()
	lab.NeedNamespace(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN) to make and enter network namespaces")
	}
}

func newNamespace(t *testing.T) netns.Namespace {
	t.Helper()
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Release)
	return ns
}

// here is the namespace of the calling thread.
func here(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func link(ns netns.Namespace) string { return fmt.Sprintf("net:[%d]", ns.ID) }

func TestDo(t *testing.T) {
	needRoot(t)
	a, b := newNamespace(t), newNamespace(t)
	outside := here(t)
	failed := errors.New("from inside")
	err := a.Do(func() error {
		if got := here(t); got != link(a) {
			t.Errorf("inside a it is %s, want %s", got, link(a))
		}
		err := b.Do(func() error {
			if got := here(t); got != link(b) {
				t.Errorf("inside b it is %s, want %s", got, link(b))
			}
			return failed
		})
		if got := here(t); got != link(a) {
			t.Errorf("back in a it is %s", got)
		}
		return err
	})
	if !errors.Is(err, failed) {
		t.Errorf("Do returned %v", err)
	}
	if got := here(t); got != outside {
		t.Errorf("afterwards it is %s, want %s", got, outside)
	}
}

// Many visits at once leave every thread of the process where it was, also the
// first one, which /proc shows as the whole process.
func TestDoChangesNoOtherThread(t *testing.T) {
	needRoot(t)
	ns := newNamespace(t)
	outside := here(t)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := ns.Do(func() error {
				if self, err := os.Readlink("/proc/self/ns/net"); err != nil || self != outside {
					t.Errorf("the process is in %s (%v), want %s", self, err, outside)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		got, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net")
		if err != nil {
			continue // the thread has ended
		}
		if got != outside {
			t.Errorf("thread %s is left in %s", task.Name(), got)
		}
	}
}

// child runs a process in a network namespace of its own until the test ends.
func child(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	return cmd
}

func TestFindAndList(t *testing.T) {
	needRoot(t)
	cmd := child(t)
	pid := cmd.Process.Pid
	byPID, err := netns.Find(t.Context(), strconv.Itoa(pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := byPID.Do(func() error {
		if got := here(t); got != link(byPID) {
			t.Errorf("found %s, entered %s", link(byPID), got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for _, arg := range []string{strconv.FormatUint(byPID.ID, 10), byPID.Path, byPID.Arg()} {
		if got, err := netns.Find(t.Context(), arg); err != nil || got.ID != byPID.ID {
			t.Errorf("Find(%q) = %+v, %v; want the namespace %d", arg, got, err, byPID.ID)
		}
	}
	all, err := netns.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, ns := range all {
		if found = found || ns.ID == byPID.ID && ns.PID == pid; ns.Own() || link(ns) == here(t) {
			t.Errorf("List has the own namespace: %+v", ns)
		}
	}
	if !found {
		t.Errorf("List has not the namespace of pid %d: %+v", pid, all)
	}
	if own, err := netns.Find(t.Context(), strconv.Itoa(os.Getpid())); err != nil || !own.Own() {
		t.Errorf("the own namespace is %+v, %v; want the zero value", own, err)
	}
}

// A path that has passed on to another namespace is not entered: a pid may be
// used again by a process elsewhere.
func TestDoRefusesAnotherNamespace(t *testing.T) {
	needRoot(t)
	a, b := newNamespace(t), newNamespace(t)
	mixed := netns.Namespace{ID: b.ID + 1_000_000, Path: a.Path}
	entered := false
	err := mixed.Do(func() error { entered = true; return nil })
	if !errors.Is(err, fs.ErrNotExist) || entered {
		t.Errorf("Do = %v, entered %v", err, entered)
	}
}

// If the process by which a namespace is known ends, it is entered through
// another one that lives in it.
func TestDoFindsAnotherWayIn(t *testing.T) {
	needRoot(t)
	cmd := child(t)
	ns, err := netns.Find(t.Context(), strconv.Itoa(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	ns.Path = "/proc/0/ns/net" // as if its process had ended
	if err := ns.Do(func() error {
		if got := here(t); got != link(ns) {
			t.Errorf("entered %s, want %s", got, link(ns))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// A namespace that is kept can be entered after its only process has ended.
func TestKeep(t *testing.T) {
	needRoot(t)
	cmd := child(t)
	ns, err := netns.Find(t.Context(), strconv.Itoa(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := ns.Keep()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if err := ns.Do(func() error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the hold: %v, want that it is gone", err)
	}
	if err := kept.Do(func() error {
		if got := here(t); got != link(ns) {
			t.Errorf("entered %s, want %s", got, link(ns))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	again, err := kept.Keep()
	if err != nil {
		t.Fatal(err)
	}
	kept.Release()
	if err := again.Do(func() error { return nil }); err != nil {
		t.Errorf("a hold ended with another one: %v", err)
	}
	again.Release()
}

func TestFindRefuses(t *testing.T) {
	for _, arg := range []string{"no-such-name", "4194303", "99999999999", "/no/such/file"} {
		if ns, err := netns.Find(t.Context(), arg); !errors.Is(err, netns.ErrUnknown) {
			t.Errorf("Find(%q) = %+v, %v", arg, ns, err)
		}
	}
	for _, arg := range []string{"/proc/self/ns/uts", "/proc/self/status", "99999999999999999999999"} {
		if ns, err := netns.Find(t.Context(), arg); err == nil {
			t.Errorf("Find(%q) = %+v", arg, ns)
		}
	}
}

func TestOrdinaryUserMayNotEnter(t *testing.T) {
	lab.NeedNamespace(t)
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user")
	}
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("needs a user namespace: %v", err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	ns, err := netns.Find(context.Background(), strconv.Itoa(cmd.Process.Pid))
	if err != nil {
		t.Skipf("the namespace of a child in a user namespace may not be seen here: %v", err)
	}
	var e *netns.Error
	err = ns.Do(func() error { return nil })
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("Do = %v, want a permission error with a hint", err)
	}
}

func TestArg(t *testing.T) {
	for _, c := range []struct {
		ns   netns.Namespace
		want string
	}{
		{netns.Namespace{ID: 7, Path: "/run/netns/blue"}, "blue"},
		{netns.Namespace{ID: 7, Path: "/run/netns/a b"}, "7"},
		{netns.Namespace{ID: 7, Path: "/run/netns/1234"}, "7"},
		{netns.Namespace{ID: 7, Path: "/proc/12/ns/net"}, "7"},
		{netns.Namespace{ID: 7, Path: "/tmp/blue"}, "7"},
		{netns.Namespace{ID: 7}, "7"},
	} {
		if got := c.ns.Arg(); got != c.want {
			t.Errorf("%+v is %q, want %q", c.ns, got, c.want)
		}
	}
}

// What enters a namespace costs tens of microseconds, so that a reading may do
// it each time.
func BenchmarkDo(b *testing.B) {
	if os.Geteuid() != 0 || !lab.Isolated() {
		b.Skip("needs root")
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Release()
	for b.Loop() {
		if err := ns.Do(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
