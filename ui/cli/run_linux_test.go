package cli

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/netstate/lab"
)

// serving is the command of a server that is this binary.
func serving(addr string, status int) []string {
	return []string{actEnv + "=serve", self, addr, fmt.Sprint(status)}
}

// run starts "berth run" in a process of its own, since it inherits the
// standard files and its signals are the command's.
func run(t *testing.T, flags string, command ...string) *process {
	t.Helper()
	args := append([]string{"run"}, strings.Fields(flags)...)
	return start(t, "berth", append(append(args, "--"), command...)...)
}

func answers(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Errorf("nobody serves: %v", err)
		return
	}
	c.Close()
}

// The command's status is berth's.
func TestRunEndsWithTheCommandsStatus(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	p := run(t, "--port "+port, serving("127.0.0.1:"+port, 7)...)
	p.await(t, "ready: pid ")
	answers(t, "127.0.0.1:"+port)
	p.stdin.Close() // the command has berth's standard input
	if status := p.end(t); status != 7 {
		t.Errorf("status %d, want the command's 7; it said:\n%s", status, p.said())
	}
	if n := strings.Count(p.said(), "started pid"); n != 1 {
		t.Errorf("a server that ended by itself was started %d times", n)
	}
}

// A signal to berth reaches the command, and its end is told as a shell does.
func TestRunForwardsSignals(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	p := run(t, "--port "+port, serving("127.0.0.1:"+port, 0)...)
	p.await(t, "ready: pid ")
	p.signal(t, syscall.SIGTERM)
	if status := p.end(t); status != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d, want 143; it said:\n%s", status, p.said())
	}
	berth(t, "why", port).is(t, 0, "can be bound now", "")
}

// A port that is held for a while is served without a person's help; nothing is
// started before, and the holder is told at once.
func TestRunRetriesUntilThePortIsFree(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.1:"+port)
	holder.await(t, "holding")
	p := run(t, "--port "+port+" --retry-for 1m", serving("127.0.0.1:"+port, 0)...)
	line := p.await(t, "The command is started as soon as the port is free, at the latest in ")
	if !strings.Contains(line, fmt.Sprintf("(pid %d, ", holder.Process.Pid)) {
		t.Errorf("the holder %d is not named: %s", holder.Process.Pid, line)
	}
	p.await(t, "berth: hint: --force frees it first")
	holder.stdin.Close()
	p.await(t, "attempt 1: started pid ")
	p.await(t, "ready: pid ")
	answers(t, "127.0.0.1:"+port)
	p.finish(t)
}

// A port that is held for good is status 3 within the budget, with pid, user
// and command of the holder, and nobody is signalled.
func TestRunNamesWhoHoldsThePort(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.1:"+port)
	holder.await(t, "holding")
	p := run(t, "--port "+port+" --retries 2 --retry-interval 10ms", serving("127.0.0.1:"+port, 0)...)
	if status := p.end(t); status != 3 {
		t.Errorf("status %d, want 3", status)
	}
	said := p.said()
	for _, want := range []string{
		"attempt 1 of 3 refused", "is still taken after 1 attempt in",
		fmt.Sprintf("(pid %d, ", holder.Process.Pid), self + " 127.0.0.1:" + port, "berth: hint: ",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	holder.stdin.Close()
	if status := holder.end(t); status != 0 {
		t.Errorf("the holder ended with %d", status)
	}
}

// A port that only the kernel holds for longer than the budget is status 4.
func TestRunOverTimeWait(t *testing.T) {
	port := fresh()
	scene(t, "TIME-WAIT", "127.0.0.1:"+port, lab.Options{})
	p := run(t, "--port "+port+" --retries 2 --retry-interval 10ms", serving("127.0.0.1:"+port, 0)...)
	if status := p.end(t); status != 4 || !strings.Contains(p.said(), "TIME-WAIT") {
		t.Errorf("status %d, want 4; it said:\n%s", status, p.said())
	}
}

// --force takes the port from a holder that ignores SIGTERM, and serves.
func TestRunForce(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.1:"+port, "deaf")
	holder.await(t, "holding")
	p := run(t, "--port "+port+" --force --yes --grace 50ms", serving("127.0.0.1:"+port, 0)...)
	p.await(t, "berth: SIGTERM sent to ")
	p.await(t, "berth: SIGKILL sent to ")
	p.await(t, "berth: 127.0.0.1:"+port+" can be bound")
	p.await(t, "berth: ready: pid ")
	answers(t, "127.0.0.1:"+port)
	if status := holder.end(t); status != 128+int(syscall.SIGKILL) {
		t.Errorf("the holder ended with %d", status)
	}
	p.finish(t)
}

// Without --yes and without a terminal nobody is signalled and nothing is
// started; a command that does not exist is found out before anybody is.
func TestRunForceAsksFirst(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.1:"+port)
	holder.await(t, "holding")
	p := run(t, "--port "+port+" --force", serving("127.0.0.1:"+port, 0)...)
	if status := p.end(t); status != 7 || !strings.Contains(p.said(), "nothing was signalled") {
		t.Errorf("status %d, want 7; it said:\n%s", status, p.said())
	}
	p = run(t, "--port "+port+" --force --yes", "no-such-command-here")
	if status := p.end(t); status != 1 || !strings.Contains(p.said(), "nothing was signalled") {
		t.Errorf("status %d, want 1; it said:\n%s", status, p.said())
	}
	holder.stdin.Close()
	if status := holder.end(t); status != 0 {
		t.Errorf("the holder ended with %d, so it was signalled", status)
	}
}

// Who holds another address of the port is not touched, but is told about if
// the command may want every address.
func TestRunForceTellsWhatIsElsewhere(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.2:"+port)
	holder.await(t, "holding")
	p := run(t, "--port "+port+" --force --yes", serving("127.0.0.1:"+port, 0)...)
	line := p.await(t, "but a server of every address would be refused")
	if !strings.Contains(line, fmt.Sprintf("(pid %d, ", holder.Process.Pid)) {
		t.Errorf("the other holder is not named: %s", line)
	}
	p.await(t, "ready: pid ")
	p.stdin.Close()
	p.end(t)
	holder.stdin.Close()
	if status := holder.end(t); status != 0 {
		t.Errorf("the holder ended with %d, so it was signalled", status)
	}
}

func TestRunThatCannotStart(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	for _, tt := range []struct {
		command string
		status  int
		says    string
	}{
		{"no-such-command-here", 1, `berth: cannot start "no-such-command-here"`},
		{os.DevNull, 5, "berth: cannot start"},
		{"A=1", 1, "berth: there is no command to start"},
	} {
		p := run(t, "--port "+port, tt.command)
		if status := p.end(t); status != tt.status || !strings.Contains(p.said(), tt.says) {
			t.Errorf("%s: status %d, want %d; it said:\n%s", tt.command, status, tt.status, p.said())
		}
	}
}

// With --json every line of berth's is an event.
func TestRunJSON(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.1:"+port)
	holder.await(t, "holding")
	p := run(t, "--port "+port+" --json --force --yes", serving("127.0.0.1:"+port, 0)...)
	p.await(t, `"event":"ready"`)
	p.stdin.Close()
	p.end(t)
	var lines []string
	for line := range strings.Lines(p.said()) {
		if line != "serving\n" {
			lines = append(lines, line)
		}
	}
	if got, want := settled(names(events(t, strings.Join(lines, "")))), "plan signal exit probe bindable attempt started ready exited"; got != want {
		t.Errorf("the events are %q, want %q", got, want)
	}
}

// What the seed promised, with its own numbers: a port held for 1.2 s is served
// without help, one that is held for good is status 3 after 2.5 s.
func TestRunKeepsTheSeedsPromise(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	holder := start(t, "hold", "127.0.0.1:"+port)
	holder.await(t, "holding")
	begin := time.Now()
	p := run(t, "--port "+port, serving("127.0.0.1:"+port, 0)...)
	p.await(t, "cannot be bound")
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the holder was named after %v", took)
	}
	if status := p.end(t); status != 3 || time.Since(begin) < 2*time.Second || time.Since(begin) > 4*time.Second {
		t.Errorf("status %d after %v, want 3 after about 2.5 s; it said:\n%s", status, time.Since(begin), p.said())
	}
	time.AfterFunc(1200*time.Millisecond, func() { holder.stdin.Close() })
	p = run(t, "--port "+port, serving("127.0.0.1:"+port, 0)...)
	p.await(t, "ready: pid ")
	if n := strings.Count(p.said(), "started pid"); n != 1 {
		t.Errorf("it was started %d times", n)
	}
	p.finish(t)
}

// The flags about the command itself.
func TestRunEnvDirHealth(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	dir := t.TempDir()
	p := run(t, "--port "+port+" --dir "+dir+" --env A=1 --env B=two", "sh", "-c", "echo $A-$B in $(pwd); exit 4")
	p.await(t, "1-two in "+dir)
	if status := p.end(t); status != 4 {
		t.Errorf("status %d", status)
	}
	// A server that only listens is never healthy.
	p = run(t, "--json --port "+port+" --ready /healthz --ready-timeout 100ms", serving("127.0.0.1:"+port, 0)...)
	line := p.await(t, `"event":"not-ready"`)
	if !strings.Contains(line, `"state":"listening"`) || !strings.Contains(line, "is not healthy by http://127.0.0.1:"+port+"/healthz") {
		t.Errorf("it said %s", line)
	}
	p.finish(t)
	// The demo gateway is well.
	p = run(t, "--json --port "+port+` --ready /healthz --ready-body "ok":true`, actEnv+"=berth", self, "demo", "gateway", "--until-eof", "--port", port)
	if line := p.await(t, `"event":"ready"`); !strings.Contains(line, `"state":"healthy"`) {
		t.Errorf("it said %s", line)
	}
	p.finish(t)
}

// --user is root's; for anybody else it is not permitted.
func TestRunUser(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	p := run(t, "--port "+port+" --user daemon --dir /", "sh", "-c", "id -u; exit 4")
	want, says := 5, "only root may start a command as daemon"
	if os.Getuid() == 0 {
		want, says = 4, "1\n"
	}
	if status := p.end(t); status != want || !strings.Contains(p.said(), says) {
		t.Errorf("status %d, want %d; it said:\n%s", status, want, p.said())
	}
	berth(t, "run", "--user", "no-such-user", "--", "sh").is(t, 2, "", "there is no user")
}
