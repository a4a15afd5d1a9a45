package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"berth/netstate/lab"
)

// restart starts "berth restart" in a process of its own.
func restart(t *testing.T, flags string, command ...string) *process {
	t.Helper()
	args := append([]string{"restart"}, strings.Fields(flags)...)
	return start(t, "berth", append(append(args, "--"), command...)...)
}

// A server that berth has not started is replaced, in both orders, and the one
// that replaced it is replaced in turn.
func TestRestartReplacesWhatListens(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	addr := "127.0.0.1:" + port
	old := start(t, "hold", addr)
	old.await(t, "holding")
	for _, how := range []string{"overlap", "queue"} {
		p := restart(t, port+" --yes --handover "+how, serving(addr, 7)...)
		p.await(t, "is kept open")
		p.await(t, "has got the old server's socket of "+addr)
		p.await(t, "the new server serves, after ")
		answers(t, addr)
		if status := old.end(t); status != 128+int(syscall.SIGTERM) {
			t.Errorf("%s: the old one ended with %d, want SIGTERM's 143", how, status)
		}
		old = p
	}
	old.stdin.Close()
	if status := old.end(t); status != 7 {
		t.Errorf("status %d, want the command's 7; it said:\n%s", status, old.said())
	}
}

// Without a yes nothing happens, and what would happen is shown.
func TestRestartAsksFirst(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	addr := "127.0.0.1:" + port
	old := start(t, "hold", addr)
	old.await(t, "holding")
	plan := "SIGTERM to "
	berth(t, "restart", port, "--", "true").is(t, 7, "", "is not the gateway that will be started; nothing was signalled\nberth: hint: add --yes --confirm ")
	berth(t, "restart", port, "--dry-run", "--", "true").is(t, 0, "", plan)
	berth(t, "restart", port, "--yes", "--", "/nonexistent/server").is(t, 1, "", "nothing was signalled")
	answers(t, addr)
}

// A new server that fails leaves the old one alone with overlap, and its
// status is berth's.
func TestRestartThatFails(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	addr := "127.0.0.1:" + port
	old := start(t, "hold", addr)
	old.await(t, "holding")
	p := restart(t, port+" --yes --handover overlap", "sh", "-c", "exit 9")
	if status := p.end(t); status != 9 || !strings.Contains(p.said(), "the old one was not stopped and goes on serving") {
		t.Errorf("status %d: %s", status, p.said())
	}
	answers(t, addr)
	p = restart(t, port+" --yes", "sh", "-c", "exit 9")
	if status := p.end(t); status != 9 || !strings.Contains(p.said(), "nothing serves the port now") {
		t.Errorf("status %d: %s", status, p.said())
	}
}

// Nobody listens: the command is started as run does it.
func TestRestartOfNothing(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	p := restart(t, port+" --yes", serving("127.0.0.1:"+port, 7)...)
	p.await(t, "nobody listens on port "+port)
	p.await(t, "ready: pid ")
	p.stdin.Close()
	if status := p.end(t); status != 7 {
		t.Errorf("status %d; it said:\n%s", status, p.said())
	}
}

// Each line of --json is an object with an event.
func TestRestartAsJSON(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	addr := "127.0.0.1:" + port
	old := start(t, "hold", addr)
	old.await(t, "holding")
	p := restart(t, port+" --yes --json", serving(addr, 0)...)
	p.await(t, `"event":"restarted"`)
	p.stdin.Close()
	p.end(t)
	seen := map[string]bool{}
	for line := range strings.Lines(p.said()) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var o struct {
			Schema int
			Event  string
			Call   struct{ How, Addr string }
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Schema != 1 {
			t.Errorf("%s: %v", line, err)
		}
		seen[strings.TrimSpace(fmt.Sprint(o.Event, " ", o.Call.How))] = true
	}
	for _, want := range []string{"plan", "adopted", "signal", "exit", "started", "bind given", "listen made", "restarted"} {
		if !seen[want] {
			t.Errorf("no %s among %v", want, seen)
		}
	}
}

func TestRestartUsage(t *testing.T) {
	for args, says := range map[string]string{
		"restart":                                 "restart needs a port",
		"restart 80":                              "restart needs a command after --",
		"restart 80 90 -- true":                   "one port before --",
		"restart 80 --handover later -- true":     "is not queue, overlap or plain",
		"restart 80 --hold-for 0s -- true":        "hold-for",
		"restart eighty -- true":                  "eighty",
		"restart 80 --grace -1s --yes -- true":    "grace",
		"restart --handover overlap -- node x.js": "restart needs a port",
	} {
		berth(t, strings.Fields(args)...).is(t, 2, "", says)
	}
}

// The binds of the command are told with their results, also to a file.
func TestRunWatchesBinds(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	addr, file := "127.0.0.1:"+port, t.TempDir()+"/events"
	p := run(t, "--port "+port+" --watch-bind --events "+file, serving(addr, 0)...)
	p.await(t, "bind "+addr+", SO_REUSEADDR: ok (")
	p.await(t, "listen "+addr+", backlog ")
	p.stdin.Close()
	p.end(t)
	data, err := os.ReadFile(file)
	if err != nil || strings.Count(string(data), "\n") != 2 || !strings.Contains(string(data), `"event":"listen"`) || !strings.Contains(string(data), `"reuseaddr":true`) {
		t.Errorf("%s, %v", data, err)
	}
}

// A command whose bind is held never learns that its port was taken.
func TestRunHoldsTheBind(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	addr := "127.0.0.1:" + port
	old := start(t, "hold", addr)
	old.await(t, "holding")
	p := run(t, "--port "+port+" --hold", serving(addr, 7)...)
	p.await(t, "bind "+addr+", SO_REUSEADDR: waits, since it is taken")
	old.stdin.Close()
	old.end(t)
	p.await(t, "bind "+addr+", SO_REUSEADDR: ok after it waited ")
	p.await(t, "ready: pid ")
	answers(t, addr)
	p.stdin.Close()
	if status := p.end(t); status != 7 || strings.Count(p.said(), "started pid") != 1 {
		t.Errorf("status %d; it said:\n%s", status, p.said())
	}
}
