//go:build unix

package gatewaylaunch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOutput(t *testing.T) {
	l := Launcher{Command: helperCommand("long"), Spec: anySpec, Kernel: &scripted{}}
	r := launch(t, l, nil)
	x := strings.Repeat("x", lineLimit)
	if got := r.lines(); !slices.Equal(got, []string{"stdout " + x, "stdout short"}) {
		t.Errorf("lines %.100q", got)
	}

	l.Command = Command{Argv: []string{"sh", "-c", `printf '\033[1mbold\033[0m\r\n\n'; printf 'last' >&2`}}
	got := launch(t, l, nil).lines()
	slices.Sort(got) // the two streams have no order between them
	if !slices.Equal(got, []string{"stderr last", "stdout ", "stdout \x1b[1mbold\x1b[0m"}) {
		t.Errorf("lines %q", got)
	}
}

// openLogFile opens a file as a caller of Launcher does.
func openLogFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestLogFile: the gateway writes the file itself, in the order of its
// writes, and only what it adds is reported.
func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.log")
	if err := os.WriteFile(path, []byte("of an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := Launcher{Spec: anySpec, Kernel: &scripted{}, Log: openLogFile(t, path)}
	l.Command = Command{Argv: []string{"sh", "-c", "echo one; echo two >&2; echo three; printf four"}}
	if got := launch(t, l, nil).lines(); !slices.Equal(got, []string{"output one", "output two", "output three", "output four"}) {
		t.Errorf("lines %q", got)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "of an earlier run\none\ntwo\nthree\nfour" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

// TestLogFileOfARunningGateway: lines are reported while it runs, and the words
// of a refused bind are heard through the file.
func TestLogFileOfARunningGateway(t *testing.T) {
	l := Launcher{Spec: anySpec, Kernel: &scripted{}, Log: openLogFile(t, filepath.Join(t.TempDir(), "gateway.log"))}
	l.Command = Command{Argv: []string{"sh", "-c", "echo started; exec sleep 30"}}
	r := launch(t, l, func(e Event, stop func()) {
		if e.Kind == EventOutput && e.Line == "started" {
			stop()
		}
	})
	if !errors.Is(r.err, context.Canceled) || !slices.Equal(r.lines(), []string{"output started"}) {
		t.Errorf("error %v, lines %q", r.err, r.lines())
	}

	l.Command = Command{Argv: []string{"sh", "-c", "echo 'bind: Address already in use' >&2; exit 1"}}
	if r = launch(t, l, nil); r.first(EventExited).Line != "bind: Address already in use" {
		t.Errorf("the words were not heard: %v", r)
	}
}
