package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// actEnv makes the test binary, executed by a test below, do one thing.
const actEnv = "BERTH_LAB_TEST_ACT"

func TestMain(m *testing.M) {
	if os.Getenv(actEnv) == "forbidden" {
		// Become the ordinary test binary where no namespace may be made.
		os.Setenv(actEnv, "say")
		fmt.Fprintln(os.Stderr, forbidNamespaces())
		os.Exit(99)
	}
	Main(m)
}

// TestAct is what the executed binary does, inside.
func TestAct(t *testing.T) {
	switch os.Getenv(actEnv) {
	case "": // an ordinary run, in which the tests below do the work
	case "exit":
		os.Exit(7)
	case "fail":
		t.Fatal("as asked")
	case "block":
		fmt.Println("ready")
		select {}
	case "sigterm":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		os.Exit(9)
	case "die":
		if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {}
	case "say":
		ns, err := currentNetNS()
		fmt.Printf("isolated %v\nnetns %s %v\nfailure %s\n", Isolated(), ns, err, os.Getenv(failureEnv))
	case "nested":
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestAct$")
		cmd.Env = append(os.Environ(), actEnv+"=say")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		ns, _ := currentNetNS()
		fmt.Printf("outer %s\n%s", ns, out)
	}
}

// act returns this test binary, set to do one thing after Main has put it into
// a namespace of its own.
func act(what string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"-test.run=^TestAct$"}, args...)...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, stageEnv+"=") && !strings.HasPrefix(v, failureEnv+"=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// The race detector waits a second at each exit, unless told otherwise.
	cmd.Env = append(cmd.Env, actEnv+"="+what, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// line returns what follows a word in the output of act.
func line(out []byte, word string) string {
	for l := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(l, word+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func TestNamespaceIsEmpty(t *testing.T) {
	NeedNamespace(t)
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		if i.Name == "lo" && i.Flags&net.FlagUp == 0 {
			t.Error("lo is down")
		}
		if i.Name != "lo" && i.Flags&net.FlagUp != 0 {
			t.Errorf("%s is up: this is not a namespace of our own", i.Name)
		}
	}
	if outside := os.Getenv(stageEnv); outside == "" || strings.HasPrefix(outside, enterPrefix) {
		t.Errorf("%s is %q, expected the namespace outside", stageEnv, outside)
	}
}

func TestOrdinaryUserHasNoCapability(t *testing.T) {
	NeedNamespace(t)
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user: root keeps its capabilities")
	}
	// Every thread counts, since capabilities belong to threads.
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(l, ":")
			switch name {
			case "CapInh", "CapPrm", "CapEff", "CapAmb":
				if strings.Trim(value, "\t\n0") != "" {
					t.Errorf("thread %s has %s %s", task.Name(), name, strings.TrimSpace(value))
				}
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:80")
	if err == nil {
		l.Close()
		t.Error("port 80 could be bound")
	} else if !errors.Is(err, unix.EACCES) {
		t.Errorf("bind of port 80: %v, expected EACCES", err)
	}
	// A process that changed its credentials would not own its own /proc.
	if _, err := os.ReadDir("/proc/self/fd"); err != nil {
		t.Error(err)
	}
}

func TestMainPassesTheExitStatusOn(t *testing.T) {
	NeedNamespace(t)
	for what, want := range map[string]int{"exit": 7, "fail": 1, "say": 0, "die": 128 + 9} {
		out, err := act(what).CombinedOutput()
		got := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			got = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: exit status %d, want %d\n%s", what, got, want, out)
		}
	}
}

func TestMainPassesFlagsOn(t *testing.T) {
	NeedNamespace(t)
	out, err := act("say", "-test.v").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("=== RUN   TestAct")) || line(out, "isolated") != "true" {
		t.Errorf("output:\n%s", out)
	}
	if n := bytes.Count(out, []byte("=== RUN")); n != 1 {
		t.Errorf("the tests ran %d times", n)
	}
	if here, _ := currentNetNS(); line(out, "netns") == here {
		t.Errorf("it runs in %s, as this test does", here)
	}
}

func TestMainPassesTheTimeoutOn(t *testing.T) {
	NeedNamespace(t)
	out, err := act("block", "-test.timeout=50ms").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !bytes.Contains(out, []byte("panic: test timed out after 50ms")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMainPassesSignalsOn(t *testing.T) {
	NeedNamespace(t)
	cmd, out := started(t, "sigterm")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 9 {
		t.Errorf("%v, expected exit status 9", err)
	}
}

func TestTestsDieWithMain(t *testing.T) {
	NeedNamespace(t)
	cmd, out := started(t, "block")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Wait()
	// The tests hold the other end of the pipe; it ends when they do.
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, out)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the tests outlived the process that started them")
	}
}

// started runs act until it says that it is ready.
func started(t *testing.T, what string) (*exec.Cmd, io.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd := act(what)
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	w.Close()
	out := bufio.NewReader(r)
	if l, err := out.ReadString('\n'); l != "ready\n" {
		t.Fatalf("%q, %v", l, err)
	}
	return cmd, out
}

func TestMainDoesNotNest(t *testing.T) {
	NeedNamespace(t)
	out, err := act("nested").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if line(out, "isolated") != "true" || line(out, "netns") != line(out, "outer")+" <nil>" {
		t.Errorf("a process started inside made a namespace of its own:\n%s", out)
	}
}

func TestInheritedVariableDoesNotIsolate(t *testing.T) {
	NeedNamespace(t)
	here, err := currentNetNS()
	if err != nil {
		t.Fatal(err)
	}
	cmd := act("say")
	cmd.Env = append(cmd.Env, stageEnv+"="+here)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if line(out, "netns") == here+" <nil>" {
		t.Errorf("the variable alone made it believe that it is inside:\n%s", out)
	}
}

func TestMainRunsInPlaceWhereNamespacesAreForbidden(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("the system call filter is written for amd64 and arm64")
	}
	out, err := act("forbidden").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	here, _ := currentNetNS()
	if line(out, "isolated") != "false" || line(out, "netns") != here+" <nil>" || !strings.Contains(line(out, "failure"), "operation not permitted") {
		t.Errorf("here is %s, output:\n%s", here, out)
	}
}

// forbidNamespaces executes this binary again where clone with CLONE_NEWNET is
// refused, as container engines do by default. It returns only on failure.
func forbidNamespaces() error {
	const dataNr, dataArg0 = 0, 16 // struct seccomp_data, low half on little-endian
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataNr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataArg0},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_NEWNET, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// skipped records what NeedNamespace does to a test.
type skipped struct{ why string }

func (*skipped) Helper() {}
func (s *skipped) Skipf(format string, args ...any) {
	s.why = fmt.Sprintf(format, args...)
}

func TestNeedNamespaceSaysWhy(t *testing.T) {
	// Each case is what the environment says; t.Setenv restores it.
	outside := os.Getenv(stageEnv)
	t.Setenv(stageEnv, "")
	t.Setenv(failureEnv, "clone: operation not permitted")
	var s skipped
	NeedNamespace(&s)
	if !strings.Contains(s.why, "CAP_SYS_ADMIN") || !strings.HasSuffix(s.why, "clone: operation not permitted") {
		t.Errorf("skipped with %q", s.why)
	}
	if outside == "" {
		return
	}
	t.Setenv(stageEnv, outside)
	s = skipped{}
	NeedNamespace(&s)
	if s.why != "" {
		t.Errorf("skipped inside, with %q", s.why)
	}
}
