package cli

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"berth/netstate/lab"
)

// The real program, on a terminal that never answers, must neither ask it
// anything nor wait for it. This is about the order in which the packages of
// the real binary are initialized, so the test binary cannot stand in for it.
func TestVersionOnASilentTerminal(t *testing.T) {
	cmd := exec.Command(realBinary(t), "version")
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	begin := time.Now()
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	out, err := io.ReadAll(terminal)
	if err != nil && !errors.Is(err, syscall.EIO) { // EIO is the end of a terminal
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took >= 200*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	if !bytes.HasPrefix(out, []byte("berth ")) || bytes.IndexByte(out, 0x1b) >= 0 {
		t.Errorf("it wrote %q", out)
	}
}

// realBinary builds berth, or takes the one that .ci/run has built for a user
// who has no Go modules.
func realBinary(t *testing.T) string {
	t.Helper()
	if built := os.Getenv("BERTH_TEST_BINARY"); built != "" {
		return built
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("needs the go tool, to build the program: %v", err)
	}
	program := filepath.Join(t.TempDir(), "berth")
	if out, err := exec.Command(goTool, "build", "-o", program, "berth").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// terminal is an act on a terminal.
type terminal struct {
	*exec.Cmd
	*os.File
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // something was written
	done chan struct{} // the terminal has ended
}

// onTerminal starts berth on a terminal of its own.
func onTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	x := &terminal{Cmd: exec.Command(self, args...), more: make(chan struct{}, 1), done: make(chan struct{})}
	x.Env = append(os.Environ(), actEnv+"=berth", "LC_ALL=C.UTF-8", "TERM=xterm-256color", "NO_COLOR=1")
	var err error
	if x.File, err = pty.StartWithSize(x.Cmd, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(x.done)
		for buf := make([]byte, 4096); ; {
			n, err := x.Read(buf)
			x.mu.Lock()
			x.text.Write(buf[:n])
			x.mu.Unlock()
			select {
			case x.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		x.Process.Kill()
		<-x.done
		x.Wait()
		x.Close()
	})
	return x
}

func (x *terminal) screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.text.String()
}

func (x *terminal) await(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for !strings.Contains(x.screen(), text) {
		select {
		case <-x.more:
		case <-x.done:
			if !strings.Contains(x.screen(), text) {
				t.Fatalf("it ended without %q:\n%q", text, x.screen())
			}
		case <-timeout:
			t.Fatalf("%q does not appear:\n%q", text, x.screen())
		}
	}
}

func (x *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(x.File, keys); err != nil {
		t.Fatal(err)
	}
}

// status waits for the end and returns the exit status.
func (x *terminal) status(t *testing.T) int {
	t.Helper()
	timeout := time.AfterFunc(20*time.Second, func() {
		t.Errorf("it does not end; the screen is\n%q", x.screen())
		x.Process.Kill()
	})
	defer timeout.Stop()
	<-x.done
	x.Wait()
	return x.ProcessState.ExitCode()
}

// The question's default is no; "y" and the typed name mean yes.
func TestConfirm(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.1:"+port)
	holder.await(t, "holding")
	for _, tt := range []struct {
		keys   string
		status int
		says   string
	}{
		{"\n", 7, "not confirmed; nothing was signalled"},
		{"n\n", 7, "not confirmed; nothing was signalled"},
		{"\x03", 130, "interrupted; nothing was signalled"},
		{"\x04", 7, "no answer"},
		{"y\n", 0, "127.0.0.1:" + port + " can be bound"},
	} {
		x := onTerminal(t, "free", port)
		x.await(t, "free 127.0.0.1:"+port+"? [y/N] ")
		x.press(t, tt.keys)
		if status := x.status(t); status != tt.status || !strings.Contains(x.screen(), tt.says) {
			t.Errorf("%q: status %d, want %d; the screen is\n%s", tt.keys, status, tt.status, x.screen())
		}
	}
	if status := holder.end(t); status != 128+int(syscall.SIGTERM) {
		t.Errorf("the holder ended with %d", status)
	}
}

// "run --force" without --yes wants the name of whoever is not the command.
func TestConfirmByName(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.1:"+port)
	holder.await(t, "holding")
	command := serving("127.0.0.1:"+port, 0)
	args := append([]string{"run", "--port", port, "--force", "--"}, command...)

	x := onTerminal(t, args...)
	x.await(t, ", or nothing to cancel: ")
	x.press(t, "y\n")
	if status := x.status(t); status != 7 || !strings.Contains(x.screen(), "not confirmed; nothing was signalled") {
		t.Errorf("status %d; the screen is\n%s", status, x.screen())
	}

	x = onTerminal(t, args...)
	x.await(t, ", or nothing to cancel: ")
	_, rest, _ := strings.Cut(x.screen(), "\ntype ")
	name, _, _ := strings.Cut(rest, " to free ")
	x.press(t, name+"\n")
	x.await(t, "ready: pid ")
	x.press(t, "\x04") // the end of the command's input
	if status := x.status(t); status != 0 {
		t.Errorf("status %d; the screen is\n%s", status, x.screen())
	}
}

// The interface opens, shows the port, and leaves the terminal as it was.
func TestInterface(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	scene(t, "LISTEN", "127.0.0.1:"+port, lab.Options{})
	const enter, leave = "\x1b[?1049h", "\x1b[?1049l"

	x := onTerminal(t, port)
	x.await(t, enter)
	x.await(t, port+" cannot be bound")
	x.press(t, "q")
	if status := x.status(t); status != 0 || strings.Count(x.screen(), leave) != 1 {
		t.Errorf("status %d after q; the terminal is left %d times", status, strings.Count(x.screen(), leave))
	}

	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		x := onTerminal(t, port)
		x.await(t, enter)
		if err := x.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if status := x.status(t); status != 130 || strings.Count(x.screen(), leave) != 1 {
			t.Errorf("%v: status %d; the terminal is left %d times", sig, status, strings.Count(x.screen(), leave))
		}
	}

	// A terminal that is wanted for text only gets no interface.
	for _, flag := range []string{"--plain", "--json"} {
		x := onTerminal(t, port, flag)
		if status := x.status(t); status != 3 || strings.Contains(x.screen(), "\x1b") {
			t.Errorf("%s: status %d, the screen is %q", flag, status, x.screen())
		}
	}
}

// insist presses a key until the program ends: a question that has just
// appeared takes none yet.
func (x *terminal) insist(t *testing.T, key string) int {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		select {
		case <-x.done:
			return x.status(t)
		case <-late:
			t.Fatalf("%q does not end it:\n%q", key, x.screen())
		case <-tick.C:
			_, _ = io.WriteString(x.File, key) // it may have ended just now
		}
	}
}

// A gateway stays if the person says so, and the next berth finds it, with the
// same command or with none; what it left of the record is its owner's alone.
func TestInterfaceFindsItsGateway(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	args := []string{port, "--", actEnv + "=berth", self, "demo", "gateway", "--port", port}

	x := onTerminal(t, args...)
	x.await(t, "listening")
	answers(t, "127.0.0.1:"+port)
	x.press(t, "q")
	x.await(t, "Quit and keep the gateway running?")
	if status := x.insist(t, "y"); status != 0 || !strings.Contains(x.screen(), "the gateway keeps running: pid ") {
		t.Errorf("status %d, the screen is\n%q", status, x.screen())
	}
	answers(t, "127.0.0.1:"+port)
	record := filepath.Join(dir, "berth", "gateway-"+port+".json")
	if info, err := os.Stat(record); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the record: %v, %v", info, err)
	}

	for _, again := range [][]string{args, {port}} {
		x = onTerminal(t, again...)
		x.press(t, "2")
		x.await(t, "started by an earlier berth")
		x.await(t, "found running")
		x.await(t, "ready: pid ")
		x.press(t, "\x03")
		x.await(t, "Quit and keep the gateway running?")
		if len(again) > 1 {
			x.press(t, "\x03") // the second needs no answer
			if status := x.status(t); status != 0 {
				t.Errorf("status %d", status)
			}
			answers(t, "127.0.0.1:"+port)
			continue
		}
		if status := x.insist(t, "x"); status != 0 {
			t.Errorf("status %d", status)
		}
	}
	berth(t, "why", port).is(t, 0, "can be bound now", "")
	if _, err := os.Stat(record); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the record is left: %v", err)
	}
}
