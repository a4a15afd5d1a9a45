package netstate

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// startCat starts a process that waits for the end of the test, under any
// name: the kernel takes the name from the path that is executed.
func startCat(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("needs cat: ", err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(cat, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Args[0] = name
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if cmd.ProcessState == nil {
			cmd.Wait()
		}
	})
	return cmd
}

func TestProcessFacts(t *testing.T) {
	ctx := context.Background()
	before := time.Now()
	// A name as awkward as they come, and longer than the kernel keeps.
	const name = "a) b (2) R 1 openclaw"
	cmd := startCat(t, name, "-", "two words")
	after := time.Now()

	h, err := processFacts(ctx, cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if h.Name != name {
		t.Errorf("name %q, want %q", h.Name, name)
	}
	if want := []string{name, "-", "two words"}; !slices.Equal(h.Cmdline, want) {
		t.Errorf("command line %q, want %q", h.Cmdline, want)
	}
	if want, _ := os.Getwd(); h.Cwd != want {
		t.Errorf("cwd %q, want %q", h.Cwd, want)
	}
	if h.UID != os.Geteuid() {
		t.Errorf("uid %d, want %d", h.UID, os.Geteuid())
	}
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil && h.User != u.Username {
		t.Errorf("user %q, want %q", h.User, u.Username)
	}
	if h.FD != -1 {
		t.Errorf("fd %d, want -1", h.FD)
	}
	// The kernel cuts the start to a tick, and so does this package.
	if h.Started.Before(before.Add(-2*tick)) || h.Started.After(after.Add(tick)) {
		t.Errorf("started %v, expected between %v and %v", h.Started, before, after)
	}
	if len(h.Parents) == 0 || h.Parents[0].PID != os.Getpid() || h.Parents[0].Name == "" {
		t.Errorf("parents %v, expected this process (%d) first", h.Parents, os.Getpid())
	}
	if id, err := IdentifyProcess(cmd.Process.Pid); err != nil || id != h.ID || id.PID != cmd.Process.Pid || id.Start == 0 {
		t.Errorf("identity %v, %v, and %v in the facts", id, err, h.ID)
	}
}

func TestEndedProcessIsNotThere(t *testing.T) {
	cmd := startCat(t, "cat")
	pid := cmd.Process.Pid
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if _, err := IdentifyProcess(pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("IdentifyProcess: %v, expected an error that is fs.ErrNotExist", err)
	}
	if h, err := processFacts(context.Background(), pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("processFacts: %+v, %v, expected an error that is fs.ErrNotExist", h, err)
	}
	if ids := Ancestors(context.Background(), pid); len(ids) != 0 {
		t.Errorf("ancestors %v", ids)
	}
	// Its end does not keep others from being read.
	live := startCat(t, "cat")
	sockets := []Socket{{PID: pid}, {PID: live.Process.Pid}, {PID: live.Process.Pid}, {State: Listen}}
	owners, err := ownersByPID(context.Background(), sockets)
	if err != nil {
		t.Fatal(err)
	}
	if hs := owners.OfAll(sockets); len(hs) != 1 || hs[0].ID.PID != live.Process.Pid {
		t.Errorf("holders %+v, expected only %d", hs, live.Process.Pid)
	}
	if owners.Hidden != 1 {
		t.Errorf("%d sockets have hidden holders, expected the one listener without a process", owners.Hidden)
	}
}

func TestAncestors(t *testing.T) {
	ids := Ancestors(context.Background(), os.Getpid())
	if len(ids) == 0 || ids[0].PID != os.Getppid() {
		t.Fatalf("%v, expected the parent %d first", ids, os.Getppid())
	}
	for i, id := range ids {
		if again, err := IdentifyProcess(id.PID); err != nil || again != id {
			t.Errorf("%v is %v, %v", id, again, err)
		}
		if id.PID == 1 && i != len(ids)-1 {
			t.Errorf("%v goes on after pid 1", ids)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got := Ancestors(ctx, os.Getpid()); len(got) != 0 {
		t.Errorf("a cancelled walk gave %v", got)
	}
	if _, err := processFacts(ctx, os.Getpid()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled facts: %v", err)
	}
}

func TestParseStat(t *testing.T) {
	const tail = " S 41 4211 4211 0 -1 4194304 500 0 0 0 1 2 0 0 20 0 11 0 987654 1234 99 18446744073709551615"
	for _, name := range []string{"node", "", "a b", ")", "((", "x) R 7 7 (y", "two\nlines"} {
		got, err := parseStat([]byte("4211 (" + name + ")" + tail + "\n"))
		if want := (procStat{parent: 41, start: 987654, name: name}); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "4211 (node)", "4211 node" + tail, "4211 )node(" + tail, "4211 (node) S 41", "4211 (node) S x" + tail[5:], "4211 (node)" + tail[:len(" S 41 4211 4211 0 -1 4194304 500 0 0 0 1 2 0 0 20 0 11 0 ")] + "soon 1"} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

// The name is what the process was started as, however long it is and
// whatever it is made of.
func TestProcessName(t *testing.T) {
	for _, name := range []string{"cat", "fourteen bytes", "fifteen bytes..", "sixteen bytes...", `back\slash`, "new\nline", `\n`} {
		pid := startCat(t, name).Process.Pid
		h, err := processFacts(t.Context(), pid)
		if err != nil || h.Name != name {
			t.Errorf("name %q (%v), want %q", h.Name, err, name)
		}
	}
}

func TestEffectiveUID(t *testing.T) {
	for status, want := range map[string]int{
		"Name:\tcat\nPPid:\t1\nUid:\t1000\t1001\t1002\t1003\nGid:\t1\t2\t3\t4\n": 1001,
		"Name:\tcat\nUid:\t0\t4294967294\t0\t0\n":                                4294967294,
		"Name:\tUid:\t1\t1\t1\t1\nUid:\t7\t8\t9\t9\n":                            8,
		"Name:\tcat\nUid:\t0\n":                                                  -1,
		"Name:\tcat\nUid:\ta\tb\tc\td\n":                                         -1,
		"":                                                                       -1,
	} {
		if got := effectiveUID([]byte(status)); got != want {
			t.Errorf("%q: uid %d, want %d", status, got, want)
		}
	}
}

func BenchmarkProcessFacts(b *testing.B) {
	for b.Loop() {
		if _, err := processFacts(context.Background(), os.Getpid()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestProcessFactsOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SETUID) to start a process as another user")
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("needs cat: ", err)
	}
	const nameless = 54321            // as in a container, whose users this system does not know
	const subordinate = 3_000_000_000 // beyond a signed number, as user namespaces are given
	nobody := uint32(65534)
	for _, uid := range []uint32{nobody, nameless, subordinate} {
		cmd := exec.Command(cat)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		h, err := processFacts(context.Background(), cmd.Process.Pid)
		stdin.Close()
		cmd.Wait()
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
			want = u.Username
		}
		if h.UID != int(uid) || h.User != want || h.Cwd != "/" {
			t.Errorf("uid %d, user %q, cwd %q; want %d, %q, /", h.UID, h.User, h.Cwd, uid, want)
		}
	}
}
