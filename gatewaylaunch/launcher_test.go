//go:build unix

package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/netstate"
)

// result is one launch with everything that it reported.
type result struct {
	status ExitStatus
	err    error
	events []Event
}

// launch runs l to its end. on may be nil; stop ends the launch's context.
func launch(t *testing.T, l Launcher, on func(e Event, stop func())) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var r result
	r.status, r.err = l.Run(ctx, func(e Event) {
		r.events = append(r.events, e)
		if on != nil {
			on(e, cancel)
		}
	})
	if ctx.Err() == context.DeadlineExceeded {
		t.Errorf("the launch did not end by itself")
	}
	if t.Failed() || testing.Verbose() {
		t.Logf("status %v, error %v, events:\n%s", r.status, r.err, r)
	}
	for i, e := range r.events {
		if e.At.IsZero() || i > 0 && e.At.Before(r.events[i-1].At) {
			t.Errorf("event %d (%s) is not in the order of time", i, e.Kind)
		}
		if e.Of != l.Retry.attempts() {
			t.Errorf("event %d (%s) says %d attempts, want %d", i, e.Kind, e.Of, l.Retry.attempts())
		}
	}
	return r
}

func (r result) String() string {
	var s strings.Builder
	for _, e := range r.events {
		fmt.Fprintf(&s, "  %s %-9s attempt %d/%d pid %d exit %v took %v wait %v %.100q err %v", e.At.Format("05.000"), e.Kind, e.Attempt, e.Of, e.PID, e.Exit, e.Took, e.Wait, e.Line, e.Err)
		if e.Verdict != nil {
			fmt.Fprintf(&s, " verdict %q", e.Verdict.Summary)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

// kinds are the kinds of the events, without output.
func (r result) kinds() string {
	var kinds []string
	for _, e := range r.events {
		if e.Kind != EventOutput {
			kinds = append(kinds, string(e.Kind))
		}
	}
	return strings.Join(kinds, " ")
}

func (r result) first(kind EventKind) *Event {
	for i := range r.events {
		if r.events[i].Kind == kind {
			return &r.events[i]
		}
	}
	return &Event{}
}

func (r result) lines() (lines []string) {
	for _, e := range r.events {
		if e.Kind == EventOutput {
			lines = append(lines, string(e.Stream)+" "+e.Line)
		}
	}
	return lines
}

// stopWhen returns a callback that ends the launch at the first event of a kind.
func stopWhen(kind EventKind) func(Event, func()) {
	return func(e Event, stop func()) {
		if e.Kind == kind {
			stop()
		}
	}
}

var anySpec = netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), 18789)

// Launches on a scripted machine: decisions that need no real socket.

func TestPlainExit(t *testing.T) {
	for _, tt := range []struct {
		c    Command
		want ExitStatus
	}{
		{helperCommand("say", "0", "done"), ExitStatus{}},
		{helperCommand("say", "3", "Error: Cannot find module './server.js'"), ExitStatus{Code: 3}},
		{Command{Argv: []string{"sh", "-c", "kill -KILL $$"}}, ExitStatus{Code: 137, Signal: 9}},
	} {
		r := launch(t, Launcher{Command: tt.c, Spec: anySpec, Retry: DefaultRetry(), Kernel: &scripted{}}, nil)
		if r.err != nil || r.status != tt.want {
			t.Errorf("%v: %v, %v, want %v", tt.c, r.status, r.err, tt.want)
		}
		if got := r.kinds(); got != "attempt started exited" {
			t.Errorf("%v: events %s", tt.c, got)
		}
		if e := r.first(EventExited); e.Exit != tt.want || e.Took <= 0 || e.PID != r.first(EventStarted).PID {
			t.Errorf("%v: exited %+v", tt.c, e)
		}
	}
}

// A gateway that speaks of a taken address while every bind of it succeeds has
// ended for another reason: it is not started again, and its words are told.
func TestSaysInUseAndTheKernelDeniesIt(t *testing.T) {
	c := helperCommand("say", "1", "\x1b[31mError: listen EADDRINUSE: address already in use 127.0.0.1:18789\x1b[0m")
	l := Launcher{Command: c, Spec: anySpec, Retry: DefaultRetry(), Kernel: &scripted{}}
	r := launch(t, l, nil)
	if got := r.kinds(); got != "attempt started exited" || r.err != nil || r.status.Code != 1 {
		t.Errorf("events %s, status %v, error %v", got, r.status, r.err)
	}
	if e := r.first(EventExited); e.Line != "Error: listen EADDRINUSE: address already in use 127.0.0.1:18789" || e.Verdict != nil {
		t.Errorf("exited %+v", e)
	}
}

// The same words count where no bind of ours can tell: nobody said the port,
// and they name none.
func TestSaysInUseOfAnUnknownAddress(t *testing.T) {
	l := Launcher{
		Command: helperCommand("say", "1", "OSError: [Errno 98] Address already in use"),
		Spec:    anySpec, GuessedPort: true, Retry: Retry{Retries: 1, Interval: 30 * time.Millisecond}, Kernel: &scripted{},
	}
	start := time.Now()
	r := launch(t, l, nil)
	if got := r.kinds(); got != "attempt started exited in-use retry attempt started exited in-use failed" {
		t.Errorf("events %s", got)
	}
	var inUse *InUseError
	if !errors.As(r.err, &inUse) || !errors.Is(r.err, syscall.EADDRINUSE) {
		t.Fatalf("error %v", r.err)
	}
	if inUse.Attempts != 2 || !inUse.Verdict.At.IsZero() || inUse.Said == "" {
		t.Errorf("error %+v: %v", inUse, inUse)
	}
	// There is nothing to wait for, so the whole interval passes.
	if time.Since(start) < 30*time.Millisecond {
		t.Error("the next attempt came before the interval was over")
	}
	if e := r.first(EventInUse); e.Verdict != nil {
		t.Errorf("an unconfirmed refusal has the verdict %+v", e.Verdict)
	}
	if e := r.first(EventFailed); e.Err != r.err {
		t.Errorf("failed with %v, returned %v", e.Err, r.err)
	}
}

func TestSilentServerIsRefusedByTwoBinds(t *testing.T) {
	holder := netstate.Holder{ID: netstate.ProcessID{PID: 4211}, Name: "node\x1b[2J", User: "alice", Cmdline: []string{"node", "old server.js"}}
	k := &scripted{
		tryBind: func(netstate.BindSpec) error { return os.NewSyscallError("bind", syscall.EADDRINUSE) },
		why:     func(spec netstate.BindSpec) netstate.Verdict { return heldVerdict(spec, holder) },
	}
	l := Launcher{Command: Command{Argv: []string{"sh", "-c", "exit 1"}}, Spec: anySpec, Retry: Retry{Retries: 4, Interval: time.Millisecond}, Kernel: k}
	r := launch(t, l, nil)
	// The holder is named before anything is started, and the one attempt comes
	// when there is no time left to wait.
	if got := r.kinds(); got != "held attempt started exited in-use failed" {
		t.Errorf("events %s", got)
	}
	if e := r.first(EventHeld); e.Verdict == nil || len(e.Verdict.Holders()) != 1 || e.Wait != 4*time.Millisecond {
		t.Errorf("held %+v", e)
	}
	if v := r.first(EventInUse).Verdict; v == nil || len(v.Holders()) != 1 {
		t.Errorf("the refusal does not name the holder: %+v", v)
	}
	for _, part := range []string{"127.0.0.1:18789", "after 1 attempt in", "pid 4211", "alice", "node 'old server.js'", "status 1"} {
		if r.err == nil || !strings.Contains(r.err.Error(), part) {
			t.Errorf("error %v does not say %q", r.err, part)
		}
	}
	if r.err != nil && strings.ContainsAny(r.err.Error(), "\x1b\n") {
		t.Errorf("error %q carries another process's control characters", r.err)
	}

	// One that says something else has ended for that; who holds the port is
	// told beside it.
	l.Command = helperCommand("say", "2", "Error: no such option --prot")
	r = launch(t, l, nil)
	if got := r.kinds(); got != "held attempt started exited" || r.err != nil || r.status.Code != 2 {
		t.Errorf("events %s, status %v, error %v", got, r.status, r.err)
	}
	if v := r.first(EventExited).Verdict; v == nil || len(v.Holders()) != 1 {
		t.Errorf("the exit does not name the holder: %+v", v)
	}

	// A port that nobody told keeps no attempt back.
	l.GuessedPort = true
	if r := launch(t, l, nil); r.kinds() != "attempt started exited" {
		t.Errorf("events %s", r.kinds())
	}
}

// heldVerdict is what netstate says when a process listens on spec.
func heldVerdict(spec netstate.BindSpec, h netstate.Holder) netstate.Verdict {
	now := time.Now()
	owners := netstate.NewOwners()
	owners.Add(7, h)
	snap := netstate.NewSnapshot(now, []netstate.Socket{{Local: spec.AddrPort(), Family: spec.Family, State: netstate.Listen, Inode: 7}}, netstate.Caps{})
	return netstate.Explain(spec, &netstate.Probe{Spec: spec, At: now, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, snap, owners)
}

// lingeringVerdict is what netstate says when a TIME-WAIT socket is left.
func lingeringVerdict(spec netstate.BindSpec, left time.Duration) netstate.Verdict {
	now := time.Now()
	snap := netstate.NewSnapshot(now, []netstate.Socket{{
		Local: spec.AddrPort(), Remote: netip.MustParseAddrPort("127.0.0.1:50000"), Family: spec.Family,
		State: netstate.TimeWait, Timer: netstate.TimerTimeWait, Expires: left,
	}}, netstate.Caps{})
	return netstate.Explain(spec, &netstate.Probe{Spec: spec, At: now, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, snap, netstate.NewOwners())
}

func TestLingeringThatOutlastsTheBudgetFailsAtOnce(t *testing.T) {
	refused := func(netstate.BindSpec) error { return os.NewSyscallError("bind", syscall.EADDRINUSE) }
	l := Launcher{
		Command: helperCommand("say", "1", "listen tcp 127.0.0.1:18789: bind: address already in use"),
		Spec:    anySpec, Retry: Retry{Retries: 2, Interval: 20 * time.Millisecond},
	}
	l.Kernel = &scripted{tryBind: refused, why: func(s netstate.BindSpec) netstate.Verdict { return lingeringVerdict(s, 57*time.Second) }}
	r := launch(t, l, nil)
	if got := r.kinds(); got != "attempt started exited in-use failed" {
		t.Errorf("events %s", got)
	}
	var inUse *InUseError
	if !errors.As(r.err, &inUse) || !inUse.TooLate || inUse.Attempts != 1 || inUse.Verdict.Reason != netstate.ReasonLingering {
		t.Fatalf("error %+v: %v", inUse, r.err)
	}
	if !strings.Contains(r.err.Error(), "for 57.0 s more") || !strings.Contains(r.err.Error(), "too early") {
		t.Errorf("error %q does not say when it clears", r.err)
	}

	// One that clears in time is waited for.
	l.Kernel = &scripted{tryBind: refused, why: func(s netstate.BindSpec) netstate.Verdict { return lingeringVerdict(s, time.Millisecond) }}
	if r := launch(t, l, nil); r.kinds() != "held attempt started exited in-use failed" {
		t.Errorf("events %s", r.kinds())
	}
}

func TestNoAddressFailsAtOnce(t *testing.T) {
	k := &scripted{tryBind: func(netstate.BindSpec) error { return os.NewSyscallError("bind", syscall.EADDRNOTAVAIL) }}
	r := launch(t, Launcher{Command: helperCommand("say", "1", "listen EADDRNOTAVAIL: address not available 10.255.0.1"), Spec: anySpec, Retry: DefaultRetry(), Kernel: k}, nil)
	var bind *BindError
	if !errors.As(r.err, &bind) || !errors.Is(r.err, syscall.EADDRNOTAVAIL) || bind.Verdict.Reason != netstate.ReasonNoAddress {
		t.Fatalf("error %v", r.err)
	}
	if !strings.HasPrefix(bind.Error(), "the gateway ended with status 1: 127.0.0.1:18789 cannot be bound") || bind.Hint() == "" {
		t.Errorf("error %q, hint %q", bind, bind.Hint())
	}
	if got := r.kinds(); got != "attempt started exited failed" {
		t.Errorf("events %s", got)
	}
}

func TestLockConflictFailsAtOnce(t *testing.T) {
	r := launch(t, Launcher{
		Command: helperCommand("say", "78", "[gateway] \x1b[31manother OpenClaw process owns gateway-lifecycle\x1b[0m"),
		Spec:    anySpec, Retry: DefaultRetry(), Kernel: &scripted{},
	}, nil)
	var lock *LockError
	if !errors.As(r.err, &lock) || lock.Exit.Code != 78 || lock.Hint() == "" || r.status.Code != 78 {
		t.Fatalf("status %v, error %v", r.status, r.err)
	}
	if errors.Is(r.err, syscall.EADDRINUSE) || strings.Contains(r.err.Error(), "\x1b") {
		t.Errorf("error %q", r.err)
	}
	if got := r.kinds(); got != "attempt started exited failed" {
		t.Errorf("events %s", got)
	}
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script := write("script", "#!/no/such/interpreter\n", 0o755)
	text := write("text", "hello\n", 0o755)
	unexecutable := write("unexecutable", "#!/bin/sh\n", 0o644)
	for _, tt := range []struct {
		c    Command
		err  error
		want string
	}{
		{Command{}, errNoProgram, "there is no command to start"},
		{Command{Argv: []string{"PORT=1"}}, errNoProgram, "there is no command to start"},
		{Command{Argv: []string{"no-such-command-of-berth"}}, exec.ErrNotFound, "there is no such command in PATH"},
		{Command{Argv: []string{"./no-such-file"}}, os.ErrNotExist, "there is no such file"},
		{Command{Argv: []string{dir + "/\x1b[2J"}}, os.ErrNotExist, `\x1b[2J`},
		{Command{Argv: []string{unexecutable}}, os.ErrPermission, "this user may not execute it"},
		{Command{Argv: []string{dir}}, os.ErrPermission, "it is a directory"},
		{Command{Argv: []string{script}}, os.ErrNotExist, "the interpreter in its first line does not exist"},
		{Command{Argv: []string{"./script"}, Dir: dir}, os.ErrNotExist, "the interpreter in its first line does not exist"},
		{Command{Argv: []string{text}}, syscall.ENOEXEC, "not a program of this system"},
		{Command{Argv: []string{"sh"}, Dir: dir + "/none"}, os.ErrNotExist, "is not a directory that can be entered"},
	} {
		r := launch(t, Launcher{Command: tt.c, Spec: anySpec, Retry: DefaultRetry(), Kernel: &scripted{}, Tie: true}, nil)
		var start *StartError
		if !errors.As(r.err, &start) || !errors.Is(r.err, tt.err) {
			t.Errorf("%q: error %v, want a StartError that wraps %v", tt.c.Argv, r.err, tt.err)
			continue
		}
		if !strings.Contains(r.err.Error(), tt.want) || start.Hint() == "" || strings.Contains(r.err.Error(), "\x1b") {
			t.Errorf("%q: error %q, hint %q, want %q", tt.c.Argv, r.err, start.Hint(), tt.want)
		}
		if got := r.kinds(); got != "attempt failed" {
			t.Errorf("%q: events %s", tt.c.Argv, got)
		}
	}
}

func TestEnvironmentOfTheGateway(t *testing.T) {
	t.Setenv("INVOCATION_ID", "x")
	t.Setenv("JOURNAL_STREAM", "8:1")
	t.Setenv("SYSTEMD_EXEC_PID", "7")
	t.Setenv("OPENCLAW_SYSTEMD_UNIT", "x.service")
	t.Setenv("KEPT", "yes")
	c := helperCommand("env")
	c.Argv = append([]string{"ASSIGNED=1"}, c.Argv...)
	env := strings.Join(launch(t, Launcher{Command: c, Spec: anySpec, Kernel: &scripted{}}, nil).lines(), "\n")
	for _, name := range supervised {
		if strings.Contains(env, "stdout "+name+"=") {
			t.Errorf("%s reaches the gateway", name)
		}
	}
	if !strings.Contains(env, "stdout KEPT=yes") || !strings.Contains(env, "stdout ASSIGNED=1") {
		t.Errorf("the environment is incomplete:\n%s", env)
	}
}

func TestDirectoryAndStandardInput(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// cat ends at once, because there is nothing to read.
	l := Launcher{Command: Command{Argv: []string{"sh", "-c", "pwd; cat"}, Dir: dir}, Spec: anySpec, Kernel: &scripted{}}
	if got := launch(t, l, nil).lines(); !slices.Equal(got, []string{"stdout " + dir}) {
		t.Errorf("lines %q, want %q", got, dir)
	}
}
