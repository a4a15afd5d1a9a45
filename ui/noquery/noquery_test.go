//go:build !windows

// An external test package: test files of package noquery itself would make
// it import bubbletea, and so be initialized after it.
package noquery_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/creack/pty"

	_ "berth/ui/noquery"
)

// The test binary links bubbletea, so it is itself the program whose start-up
// is examined: it runs again as a child on a terminal that never answers.
const childEnv = "BERTH_NOQUERY_CHILD"

var _ tea.Msg // Linking bubbletea is the point.

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "plain":
		fmt.Print("main")
	case "asks":
		// What bubbletea's init would do: a renderer to which nobody has
		// given the answer.
		lipgloss.NewRenderer(os.Stdout).HasDarkBackground()
		fmt.Print("main")
	}
}

// TestNoQuery starts a program that links bubbletea and this package. It must
// reach main without having written to the terminal.
func TestNoQuery(t *testing.T) {
	out := onSilentTerminal(t, "plain", func([]byte) bool { return false })
	if string(out) != "main" {
		t.Errorf("a program that links bubbletea wrote %q to the terminal, want only %q", out, "main")
	}
}

// TestSilentTerminalShowsQueries shows that TestNoQuery can fail: the same
// terminal sees the query of a renderer that does not know the answer.
func TestSilentTerminalShowsQueries(t *testing.T) {
	query := []byte("\x1b]11;?")
	out := onSilentTerminal(t, "asks", func(out []byte) bool { return bytes.Contains(out, query) })
	if !bytes.HasPrefix(out, query) {
		t.Errorf("the terminal saw %q, want the background query %q first", out, query)
	}
}

// onSilentTerminal runs this test binary with childEnv=mode on a terminal
// that shows what is written and never answers. It returns what was written
// when the child ended or when enough said so.
func onSilentTerminal(t *testing.T, mode string, enough func([]byte) bool) []byte {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Lipgloss waits five seconds for an answer; a child that asks is thus
	// found by its output, not by this deadline.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	// With TERM=dumb, CI set or in tmux, termenv would not ask in any case.
	cmd.Env = []string{childEnv + "=" + mode, "TERM=xterm-256color", "GOCOVERDIR=" + t.TempDir()}
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer terminal.Close()
	defer cmd.Wait()
	defer cancel()

	var out []byte
	buf := make([]byte, 256)
	for !enough(out) {
		n, err := terminal.Read(buf)
		out = append(out, buf[:n]...)
		if err != nil { // EOF, or EIO on Linux: the child has closed its side.
			break
		}
	}
	if ctx.Err() != nil {
		t.Fatalf("the child did not end within 20 s; it wrote %q", out)
	}
	return out
}
