//go:build unix

package gatewaylaunch

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// lineReader reads a program's output line by line and keeps all of it.
type lineReader struct {
	*bufio.Scanner
	all []string
}

// until reads to the first line that contains want, and returns it.
func (r *lineReader) until(t *testing.T, want string) string {
	t.Helper()
	for r.Scan() {
		r.all = append(r.all, r.Text())
		if strings.Contains(r.Text(), want) {
			return r.Text()
		}
	}
	t.Fatalf("the output ended before %q:\n%s", want, strings.Join(r.all, "\n"))
	return ""
}

func (r *lineReader) rest() []string {
	for r.Scan() {
		r.all = append(r.all, r.Text())
	}
	return r.all
}

func count(lines []string, part string) (n int) {
	for _, l := range lines {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// berth is the command of a small berth that launches a helper in the
// foreground. It is ended with the test.
func berth(t *testing.T, addr string, args ...string) *exec.Cmd {
	t.Helper()
	c := helperCommand("launch", append([]string{addr}, args...)...)
	cmd := exec.CommandContext(t.Context(), c.Argv[1], c.Argv[2:]...)
	cmd.Env = c.environ()
	return cmd
}

func TestForegroundForwardsSignals(t *testing.T) {
	realKernel(t) // skips where the helper could not read the table
	cmd := berth(t, freeAddress(t), "signals")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := &lineReader{Scanner: bufio.NewScanner(stdout)}
	out.until(t, "terminal false")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGINT, syscall.SIGTERM} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		out.until(t, "got "+sig.String())
	}
	if all := out.rest(); count(all, "got ") != 4 {
		t.Errorf("the gateway got %q", all)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("berth ended with %v, want the gateway's status 7", err)
	}
}

func TestForegroundOnATerminal(t *testing.T) {
	realKernel(t)
	cmd := berth(t, freeAddress(t), "signals")
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Skip("no pseudo-terminal here: ", err)
	}
	defer tty.Close()
	out := &lineReader{Scanner: bufio.NewScanner(tty)}
	// The terminal is passed through untouched.
	out.until(t, "terminal true")
	// Ctrl-C reaches the gateway from the terminal, so berth must not send it
	// again. What berth does send comes after that.
	if _, err := tty.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	out.until(t, "got "+syscall.SIGINT.String())
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out.until(t, "got "+syscall.SIGTERM.String())
	out.until(t, "berth: stopped")
	if n := count(out.all, "got "+syscall.SIGINT.String()); n != 1 {
		t.Errorf("the gateway got SIGINT %d times: %q", n, out.all)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("berth ended with %v, want the gateway's status 7", err)
	}
}

// On a terminal the gateway cannot be heard; the binds around each attempt
// tell that its address is taken.
func TestForegroundOnATerminalInUse(t *testing.T) {
	realKernel(t)
	addr := listenLoopback(t).Addr().String()
	cmd := berth(t, addr, "serve", addr)
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Skip("no pseudo-terminal here: ", err)
	}
	defer tty.Close()
	out := &lineReader{Scanner: bufio.NewScanner(tty)}
	out.until(t, fmt.Sprintf("%s is still taken after 1 attempt in", addr))
	if last := out.all[len(out.all)-1]; !strings.Contains(last, fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("error %q does not name this process", last)
	}
	for kind, want := range map[string]int{"held": 1, "attempt": 1, "in-use": 1, "retry": 0, "failed": 1, "output": 0} {
		if n := count(out.all, "berth: "+kind); n != want {
			t.Errorf("%d %s events, want %d: %q", n, kind, want, out.all)
		}
	}
	// Its output still went to the terminal.
	if n := count(out.all, "bind: address already in use"); n != 1 {
		t.Errorf("%d lines of the gateway, want 1: %q", n, out.all)
	}
	_ = cmd.Wait()
}

// foregroundTo is a launch in the foreground whose output goes to files.
func foregroundTo(t *testing.T, c Command, out, err *os.File) Launcher {
	t.Helper()
	in, e := os.Open(os.DevNull)
	if e != nil {
		t.Fatal(e)
	}
	t.Cleanup(func() { in.Close() })
	return Launcher{Command: c, Spec: anySpec, Kernel: &scripted{}, Foreground: true, stdio: &stdio{in, out, err}}
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestForegroundCopiesItsOutput(t *testing.T) {
	script := Command{Argv: []string{"sh", "-c", `printf 'a\r\n'; echo b >&2; printf '\033[1mc'; echo 'Address already in use' >&2; exit 1`}}
	read := func(f *os.File) string {
		t.Helper()
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}

	out, errs := create(t, "out"), create(t, "err")
	r := launch(t, foregroundTo(t, script, out, errs), nil)
	if got := read(out); got != "a\r\n\x1b[1mc" {
		t.Errorf("stdout %q", got)
	}
	if got := read(errs); got != "b\nAddress already in use\n" {
		t.Errorf("stderr %q", got)
	}
	// It was heard, and nothing of it was reported.
	if got := r.kinds(); got != "attempt started exited" || r.first(EventExited).Line == "" || len(r.lines()) > 0 {
		t.Errorf("events %s, lines %q", got, r.lines())
	}

	// Where both go to one file, their order is kept.
	both := create(t, "both")
	launch(t, foregroundTo(t, script, both, both), nil)
	if got := read(both); got != "a\r\nb\n\x1b[1mcAddress already in use\n" {
		t.Errorf("both %q", got)
	}
}

func TestForegroundCancel(t *testing.T) {
	out := create(t, "out")
	// The descendant is not berth's business in the foreground.
	l := foregroundTo(t, helperCommand("spawn", "stay", "session", "stay"), out, out)
	l.Grace = time.Second
	r := launch(t, l, stopWhen(EventStarted))
	if r.kinds() != "attempt started stopped" || r.status.Signal != int(syscall.SIGTERM) {
		t.Errorf("events %s, status %+v", r.kinds(), r.status)
	}
	var pid int
	data, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(data), "spawned %d", &pid); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it was started by this test's gateway
	}
}
