package netstate_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
)

// impactOf reads everything about a port as a caller would.
func impactOf(t *testing.T, port uint16) ([]netstate.Holder, netstate.Impact) {
	t.Helper()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	snap, err := sys.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listeners := slices.DeleteFunc(slices.Clone(snap.Port(port)), func(s netstate.Socket) bool { return s.State != netstate.Listen })
	owners, err := sys.Owners(t.Context(), listeners)
	if err != nil {
		t.Fatal(err)
	}
	holders := owners.OfAll(listeners)
	im, err := sys.Impact(t.Context(), snap, port, holders)
	if err != nil {
		t.Fatal(err)
	}
	if len(im.Holders) != len(holders) {
		t.Fatalf("%d impacts of %d holders", len(im.Holders), len(holders))
	}
	return holders, im
}

// TestImpact: this process listens, a child shares its listener, another child
// does not, and a third is a client.
func TestImpact(t *testing.T) {
	lab.NeedNamespace(t)
	l, err := lab.Listen(netip.MustParseAddrPort("127.0.0.1:8080"), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heir, err := l.Inherit()
	if err != nil {
		t.Fatal(err)
	}
	defer heir.Close()
	conn, err := l.Dial(lab.Route{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client, err := conn.Client.Inherit()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	bystander := startChild(t, nil)
	group := startChild(t, &syscall.SysProcAttr{Setpgid: true})

	dir := t.TempDir()
	path := filepath.Join(dir, "data base")
	for _, name := range []string{path, path, filepath.Join(dir, "deleted")} {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if err := os.Remove(filepath.Join(dir, "deleted")); err != nil {
		t.Fatal(err)
	}
	read, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()

	holders, im := impactOf(t, 8080)
	// The lowest number comes first, and numbers begin anew at some point.
	me := slices.IndexFunc(holders, func(h netstate.Holder) bool { return h.ID.PID == os.Getpid() })
	if len(holders) != 2 || me < 0 || holders[1-me].ID.PID != heir.PID {
		t.Fatalf("holders %+v, want this process and %d", holders, heir.PID)
	}
	self, other := im.Holders[me], im.Holders[1-me]
	pids := func(s netstate.Sample[netstate.Kin]) (pids []int) {
		for _, k := range s.First {
			pids = append(pids, k.PID)
			if k.Name != "cat" {
				t.Errorf("%+v is no cat", k)
			}
		}
		return pids
	}
	want := []int{client.PID, bystander, group}
	slices.Sort(want)
	if got := pids(self.Children); !self.Children.Known || self.Children.Count != 3 || !slices.Equal(got, want) {
		t.Errorf("children %+v, want %v", self.Children, want)
	}
	if got := pids(other.Children); !other.Children.Known || len(got) != 0 {
		t.Errorf("children of the heir %+v, want none", other.Children)
	}
	if self.GroupID != syscall.Getpgrp() || slices.ContainsFunc(self.Group.First, func(k netstate.Kin) bool { return k.PID == group || k.PID == heir.PID || k.PID == os.Getpid() }) {
		t.Errorf("group %d %+v, want %d without holders and %d", self.GroupID, self.Group, syscall.Getpgrp(), group)
	}
	if !slices.ContainsFunc(self.Group.First, func(k netstate.Kin) bool { return k.PID == bystander }) {
		t.Errorf("group %+v lacks %d", self.Group, bystander)
	}
	if sid, err := unix.Getsid(0); err == nil && self.Session != sid {
		t.Errorf("session %d, want %d", self.Session, sid)
	}
	// The tests' own output may be a file too, so this one has to be among
	// them, once.
	found := slices.DeleteFunc(slices.Clone(self.Writing.First), func(name string) bool { return filepath.Dir(name) != dir && name != os.Args[0] })
	if !self.Writing.Known || !slices.Equal(found, []string{path}) {
		t.Errorf("files %+v, want %q among them", self.Writing, path)
	}

	if im.Clients.Count != 1 || im.Clients.First[0].Here != netstate.Yes {
		t.Fatalf("clients %+v, want one here", im.Clients)
	}
	var names []int
	for _, h := range im.Clients.First[0].Holders {
		names = append(names, h.ID.PID)
	}
	slices.Sort(names)
	want = []int{os.Getpid(), client.PID}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the client is held by %v, want %v", names, want)
	}
}

func startChild(t *testing.T, attr *syscall.SysProcAttr) int {
	t.Helper()
	path, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("needs cat: ", err)
	}
	cmd := exec.Command(path)
	cmd.SysProcAttr = attr
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
	return cmd.Process.Pid
}

// TestImpactOfAnotherUser: what may not be read is not known, which is not
// the same as nothing.
func TestImpactOfAnotherUser(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	id, err := netstate.IdentifyProcess(1)
	if err != nil {
		t.Skip("needs to see process 1: ", err)
	}
	if _, err := os.ReadDir("/proc/1/fd"); err == nil {
		t.Skip("needs a process 1 of another user")
	}
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	snap, err := sys.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	im, err := sys.Impact(t.Context(), snap, 8080, []netstate.Holder{{ID: id}})
	if err != nil {
		t.Fatal(err)
	}
	if h := im.Holders[0]; h.Writing.Known || h.Writing.Count != 0 || !h.Children.Known || h.Children.Count == 0 {
		t.Errorf("files %+v, want them unknown; children %+v, want some", h.Writing, h.Children)
	}
}

func TestImpactIsCancelled(t *testing.T) {
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	snap, err := sys.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sys.Impact(ctx, snap, 8080, []netstate.Holder{{ID: netstate.ProcessID{PID: os.Getpid()}}}); err == nil {
		t.Error("no error")
	}
}
