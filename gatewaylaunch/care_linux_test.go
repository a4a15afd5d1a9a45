package gatewaylaunch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// onPTY starts a command on a terminal and reads what it says.
func onPTY(t *testing.T, cmd *exec.Cmd) (*os.File, *lineReader) {
	t.Helper()
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Skip("no pseudo-terminal here: ", err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, &lineReader{Scanner: bufio.NewScanner(tty)}
}

// Ctrl-C once is polite; twice ends the gateway and what it started, however
// stolid both are.
func TestSecondInterruptKills(t *testing.T) {
	realKernel(t)
	cmd := berth(t, freeAddress(t), "stolid")
	tty, out := onPTY(t, cmd)
	var child int
	if _, err := fmt.Sscanf(out.until(t, "child "), "child %d", &child); err != nil {
		t.Fatal(err)
	}
	// Signals that come before the last was taken are one, so each key press
	// waits for the answer to the one before.
	presses := 0
	for more := true; more; presses++ {
		if _, err := tty.WriteString("\x03"); err != nil {
			t.Fatal(err)
		}
		for more = out.Scan(); more && !strings.Contains(out.Text(), "refusing"); more = out.Scan() {
			out.all = append(out.all, out.Text())
		}
	}
	if presses < 2 || count(out.all, "berth: stopped") != 1 {
		t.Errorf("after %d key presses it said %q", presses, out.all)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(syscall.SIGKILL) {
		t.Errorf("berth ended with %v, want 137", err)
	}
	if running(child) {
		t.Error("the gateway's child is left")
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
}

// A gateway in the foreground does not outlive a berth that is killed.
func TestForegroundEndsWithBerth(t *testing.T) {
	realKernel(t)
	cmd := berth(t, freeAddress(t), "signals")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A file, since berth copies what goes through its own pipe.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var pid int
	out := &lineReader{Scanner: bufio.NewScanner(r)}
	if _, err := fmt.Sscanf(out.until(t, "terminal false"), "pid %d", &pid); err != nil {
		t.Fatal(err)
	}
	ended, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ended.Release()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitGone(t, pid)
}

// awaitGone waits for the end of a process that may be nobody's child here.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for running(pid) {
		select {
		case <-late:
			t.Errorf("pid %d is left", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		case <-tick.C:
		}
	}
}

// The terminal is the gateway's own: it sees its size and each change of it.
func TestForegroundWindowSize(t *testing.T) {
	realKernel(t)
	cmd := berth(t, freeAddress(t), "size")
	tty, out := onPTY(t, cmd)
	out.until(t, "size 80x24")
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	out.until(t, "size 132x50")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out.until(t, "berth: stopped")
	_ = cmd.Wait()
}

// A shell's job control works on berth and its gateway as on one program:
// Ctrl-Z stops both, fg lets both go on.
func TestForegroundJobControl(t *testing.T) {
	realKernel(t)
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	inner := berth(t, freeAddress(t), "signals")
	shell := exec.CommandContext(t.Context(), bash, "--norc", "--noprofile", "-i")
	shell.Env = append(inner.Env, "PS1=$ ")
	tty, out := onPTY(t, shell)
	write := func(s string) {
		t.Helper()
		if _, err := tty.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	inner.Args[0] = fmt.Sprintf("/proc/%d/exe", os.Getpid()) // the shell's own self is another
	write(shellJoin(inner.Args) + "\n")
	var pid int
	line := out.until(t, "terminal true")
	if _, err := fmt.Sscanf(line[strings.Index(line, "pid "):], "pid %d", &pid); err != nil {
		t.Fatal(err)
	}
	write("\x1a")
	out.until(t, "Stopped")
	stat := func() string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		return string(data[strings.LastIndexByte(string(data), ')')+2:])[:1]
	}
	// The terminal signals both at once, and the shell speaks when berth has
	// stopped: the gateway's threads may still be about to. No event tells.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); stat() != "T"; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("the gateway is in state %s after ctrl-z, want T", stat())
		}
	}
	write("fg\n")
	// The shell has let both go on when a signal to the gateway is answered.
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	out.until(t, "got "+syscall.SIGUSR1.String())
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out.until(t, "berth: exited")
	write("exit\n")
	_ = shell.Wait()
}

func TestAsAnotherUser(t *testing.T) {
	u := &User{Name: "nobody", Home: "/nonexistent", UID: 65534, GID: 65534}
	c := Command{Argv: []string{"sh", "-c", "echo $(id -u) $(id -g) $(id -G) $HOME $USER"}, User: u, Dir: "/"}
	r := launch(t, Launcher{Command: c, Spec: anySpec, Kernel: &scripted{}}, nil)
	if os.Getuid() == 0 {
		if !slices.Equal(r.lines(), []string{"stdout 65534 65534 65534 /nonexistent nobody"}) {
			t.Errorf("it is %q", r.lines())
		}
		return
	}
	var start *StartError
	if u.UID = 0; os.Getuid() == 65534 {
		c.User = u
		r = launch(t, Launcher{Command: c, Spec: anySpec, Kernel: &scripted{}}, nil)
	}
	if !errors.As(r.err, &start) || !errors.Is(r.err, fs.ErrPermission) || start.Hint() == "" {
		t.Errorf("error %v", r.err)
	}
}

// The log of a running gateway is bounded, and only its owner may read it.
func TestLogIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "gateway.log")
	log, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l := Launcher{Spec: anySpec, Kernel: &scripted{}, Log: log}
	// It goes on writing when berth has caught up.
	l.Command = Command{Argv: []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x | fold -w 4000; echo; echo full; while [ ! -e %[2]s.1 ] || [ -s %[2]s ]; do sleep 0.02; done; echo after", LogMost+4000, path)}}
	r := launch(t, l, nil)
	if lines := r.lines(); !slices.Equal(lines[len(lines)-2:], []string{"output full", "output after"}) {
		t.Errorf("the last lines are %.50q", lines[len(lines)-2:])
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "after\n" {
		t.Errorf("the log is %.50q, %v", data, err)
	}
	for _, name := range []string{path, OldLog(path)} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 || info.Size() > LogMost+10000 {
			t.Errorf("%s is %v, %d bytes", name, info.Mode(), info.Size())
		}
	}
	// A log that was filled without berth is put aside by the next one.
	if err := os.Truncate(path, LogMost+1); err != nil {
		t.Fatal(err)
	}
	again, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if info, err := again.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("the new log has %d bytes, %v", info.Size(), err)
	}
}

// A gateway that was left running is found again by its record, is watched and
// can be stopped; a record of another process is not believed.
func TestAdopt(t *testing.T) {
	k := realKernel(t)
	dir := t.TempDir()
	addr := freeAddress(t)
	c, mark := marked(t, helperCommand("spawn", "stay", "session", "serve", addr))
	log, err := OpenLog(filepath.Join(dir, "gateway.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	_, program := splitAssignments(c.Argv)
	cmd := exec.Command(program[0], program[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.environ(), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { _ = cmd.Wait(); close(reaped) }()

	l := Launcher{Command: c, Spec: specOf(addr), Kernel: k, Log: log}
	rec, err := l.NewRecord(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "gateway.json")
	if err := rec.Write(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record is %v, %v", info.Mode(), err)
	}
	found, err := ReadRecord(path)
	if err != nil || !found.Started(c) || found.Log != log.Name() || found.Port != l.Spec.Port {
		t.Fatalf("found %+v, %v", found, err)
	}

	for name, stranger := range map[string]Record{
		"another start": func(r Record) Record { r.Start++; return r }(rec),
		"another boot":  func(r Record) Record { r.Boot = "x"; return r }(rec),
		"no process":    func(r Record) Record { r.PID = 1 << 22; return r }(rec),
	} {
		if err := stranger.Write(path); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadRecord(path); err == nil {
			t.Errorf("%s: the record is believed", name)
		}
		if err := l.Adopt(t.Context(), stranger, nil); err == nil {
			t.Errorf("%s: the process is adopted", name)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var r result
	r.err = l.Adopt(ctx, rec, func(e Event) {
		r.events = append(r.events, e)
		if e.Kind == EventReady {
			cancel()
		}
	})
	if got := r.kinds(); got != "found ready stopped" || r.err != context.Canceled {
		t.Errorf("events %s, error %v", got, r.err)
	}
	if e := r.first(EventReady); e.Line != addr || e.PID == cmd.Process.Pid {
		t.Errorf("ready %+v", e)
	}
	if e := r.first(EventStopped); e.Exit.Known() || e.State != StateExited {
		t.Errorf("stopped %+v", e)
	}
	if !slices.Contains(r.lines(), "output listening on "+addr) {
		t.Errorf("the log is not shown: %q", r.lines())
	}
	<-reaped
	if n := endSurvivors(t, mark); n > 0 {
		t.Errorf("%d processes are left", n)
	}
	if err := RemoveRecord(path, cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	if _, err := ReadRecord(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the record is left: %v", err)
	}
}
