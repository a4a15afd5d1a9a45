package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate/lab"
	"berth/netstate/netns"
	"berth/ui"
)

func init() { acts["web"] = web }

// web ADDR serves its pid. At /bind it binds another port first and says how
// that went; SIGTERM ends it once what it has begun is answered.
func web(args []string) {
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("web of", os.Getpid())
	_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		if r.URL.Path == "/bind" {
			other, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
			if err != nil {
				fmt.Fprint(w, err)
				return
			}
			other.Close()
		}
		fmt.Fprint(w, os.Getpid())
	}))
}

func webAt(addr string) []string { return []string{actEnv + "=web", self, addr} }

func get(addr, path string) (string, error) {
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

// needHandOver skips a test where the machine does not allow a hand-over.
func needHandOver(t *testing.T) {
	t.Helper()
	if s := bindnotify.Supported(t.Context()); !s.HandOver {
		t.Skipf("needs a hand-over: %v", s.Err)
	}
}

// load opens a connection every 2 ms until stop is called, which returns how
// many were made and how many of them were refused.
func load(t *testing.T, addr string) (stop func() (made, refused int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var (
		open          sync.WaitGroup
		mu            sync.Mutex
		made, refused int
	)
	open.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			open.Go(func() {
				conn, err := net.DialTimeout("tcp", addr, 20*time.Second)
				if err == nil {
					conn.Close()
				}
				mu.Lock()
				defer mu.Unlock()
				made++
				if errors.Is(err, syscall.ECONNREFUSED) {
					refused++
				}
			})
		}
	})
	return func() (int, int) {
		cancel()
		open.Wait()
		return made, refused
	}
}

// stopAtEnd ends a server that nobody stays with.
func stopAtEnd(t *testing.T, addr string) {
	t.Cleanup(func() {
		if pid, err := get(addr, "/"); err == nil {
			if n, err := strconv.Atoi(pid); err != nil || syscall.Kill(n, syscall.SIGKILL) != nil {
				t.Errorf("pid %s goes on", pid)
			}
		}
	})
}

// Two detached restarts, one after the other, refuse nobody. The launcher has
// ended each time, and the server can still bind.
func TestRestartDetached(t *testing.T) {
	lab.NeedNamespace(t)
	needHandOver(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	port := fresh()
	addr := "127.0.0.1:" + port
	detached := func(how, says string) string {
		p := restart(t, port+" --yes --detach --handover "+how, webAt(addr)...)
		if status := p.end(t); status != 0 || !strings.Contains(p.said(), says) || !strings.Contains(p.said(), "it goes on by itself; its output is in ") {
			t.Fatalf("status %d; it said:\n%s", status, p.said())
		}
		pid, err := get(addr, "/bind")
		if err != nil || strings.Trim(pid, "0123456789") != "" {
			t.Fatalf("the server cannot bind any more: %q, %v", pid, err)
		}
		return pid
	}
	stopAtEnd(t, addr)
	pids := []string{detached("queue", "nobody listens on port "+port)}
	stop := load(t, addr)
	for _, how := range []string{"queue", "overlap", "queue"} {
		pids = append(pids, detached(how, "has got the old server's socket of "+addr))
	}
	if made, refused := stop(); refused > 0 || made == 0 {
		t.Errorf("%d of %d connections were refused", refused, made)
	}
	for i := range pids[1:] {
		if pids[i] == pids[i+1] {
			t.Errorf("the pids are %v", pids)
		}
	}
	path, err := statePath(os.Getenv, at(addr).Port(), ".json")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := gatewaylaunch.ReadRecord(path)
	if err != nil || fmt.Sprint(rec.PID) != pids[len(pids)-1] {
		t.Errorf("the record is %+v, %v; pid %s serves", rec, err, pids[len(pids)-1])
	}
	log, err := os.ReadFile(rec.Log)
	if err != nil || strings.Count(string(log), "web of ") != len(pids) {
		t.Errorf("the log is %q, %v", log, err)
	}
}

// What does not come to serve is not left behind, and its status is told.
func TestRestartDetachedThatFails(t *testing.T) {
	lab.NeedNamespace(t)
	needHandOver(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	port := fresh()
	addr := "127.0.0.1:" + port
	old := start(t, "web", addr)
	old.await(t, "web of ")
	for _, c := range []struct {
		flags, command string
		status         int
		says           string
	}{
		{"--handover overlap", "echo broken; exit 9", 9, "the old one was not stopped and goes on serving"},
		{"--handover overlap --ready-timeout 100ms", "exec sleep 60", 6, "it was stopped; --ready-timeout gives it more time"},
		{"", "echo broken; exit 9", 9, "nothing serves the port now"},
		{"", "exit 0", 1, "before it was ready"},
	} {
		p := restart(t, port+" --yes --detach "+c.flags, "sh", "-c", c.command)
		if status := p.end(t); status != c.status || !strings.Contains(p.said(), c.says) ||
			strings.HasPrefix(c.command, "echo") && !strings.Contains(p.said(), "berth: | broken\n") {
			t.Errorf("%s %q: status %d, want %d; it said:\n%s", c.flags, c.command, status, c.status, p.said())
		}
		if c.flags != "" {
			answers(t, addr)
		}
	}
}

// The gateway of the engine is handed over twice, the second time to its own
// next instance, and nobody is refused.
func TestEngineHandsOver(t *testing.T) {
	port := freshPort()
	spec := loopback(port)
	e := startTestEngine(t, gateway{spec: spec, command: gatewaylaunch.Command{Argv: webAt(spec.String()), Env: os.Environ()}}, false)
	e.state = t.TempDir() + "/gateway.json"
	needHandOver(t)
	old := start(t, "web", spec.String())
	old.await(t, "web of ")
	stop := load(t, spec.String())
	var before chan error
	for _, how := range []gatewaylaunch.Handover{gatewaylaunch.Queue, gatewaylaunch.Overlap, gatewaylaunch.Queue} {
		held, err := e.Plan(t.Context(), ui.PlanRequest{Spec: e.Spec(netns.Namespace{}, port), HandOver: true})
		if err != nil {
			t.Fatal(err)
		}
		events, result := make(chan gatewaylaunch.RestartEvent, 4096), make(chan error, 1)
		go func() {
			defer held.Close()
			result <- e.HandOver(t.Context(), held, how, func(ev gatewaylaunch.RestartEvent) { events <- ev })
		}()
		given := false
		for done, ready := false, false; !done || !ready; {
			select {
			case ev := <-events:
				given = given || ev.Bind != nil && ev.Bind.How == bindnotify.HowGiven
				done = done || ev.Kind == gatewaylaunch.RestartDone
				ready = ready || ev.Launch != nil && ev.Launch.Kind == gatewaylaunch.EventReady
			case err := <-result:
				t.Fatalf("%s: it ended: %v", how, err)
			}
		}
		if !given {
			t.Errorf("%s: no socket was handed over", how)
		}
		if before != nil {
			if err := <-before; err != nil {
				t.Errorf("the launch that was replaced: %v", err)
			}
		}
		before = result
	}
	made, refused := stop()
	if refused > 0 || made == 0 {
		t.Errorf("%d of %d connections were refused", refused, made)
	}
	pid, err := get(spec.String(), "/")
	rec := e.running()
	if err != nil || rec == nil || fmt.Sprint(rec.PID) != pid {
		t.Errorf("pid %s serves, %v; the record is %+v", pid, err, rec)
	}
	if err := e.StopGateway(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-before; err != nil {
		t.Errorf("a gateway that was stopped: %v", err)
	}
	if rec := e.running(); rec != nil {
		t.Errorf("the record of a gateway that has ended: %+v", rec)
	}
}

// A new server that fails beside the old one leaves that one the gateway.
func TestEngineKeepsTheOldOne(t *testing.T) {
	port := freshPort()
	spec := loopback(port)
	e := startTestEngine(t, gateway{spec: spec, command: gatewaylaunch.Command{Argv: webAt(spec.String()), Env: os.Environ()}}, false)
	e.state = t.TempDir() + "/gateway.json"
	needHandOver(t)
	events, result := launchGateway(t.Context(), e)
	first := events.await(t, gatewaylaunch.EventReady)
	held, err := e.Plan(t.Context(), ui.PlanRequest{Spec: spec, HandOver: true})
	if err != nil {
		t.Fatal(err)
	}
	good := e.gateway.command.Argv
	e.gateway.command.Argv = []string{"sh", "-c", "exit 9"}
	err = e.HandOver(t.Context(), held, gatewaylaunch.Overlap, func(gatewaylaunch.RestartEvent) {})
	held.Close()
	e.gateway.command.Argv = good
	var failed *gatewaylaunch.RestartError
	if !errors.As(err, &failed) || !failed.OldServes {
		t.Errorf("the hand-over: %v", err)
	}
	if rec := e.running(); rec == nil || rec.PID != first.PID {
		t.Errorf("the record is %+v, and pid %d goes on", rec, first.PID)
	}
	if err := e.StopGateway(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	if _, err := get(spec.String(), "/"); err == nil {
		t.Error("the old one was not the one that was stopped")
	}
}

// With watchBind each bind of the gateway is told.
func TestEngineWatchesBinds(t *testing.T) {
	port := freshPort()
	spec := loopback(port)
	e := startTestEngine(t, gateway{spec: spec, command: gatewaylaunch.Command{Argv: webAt(spec.String()), Env: os.Environ()}}, false)
	e.watch(t.Context())
	if e.note != "" && !e.watchBind {
		t.Skip(e.note)
	}
	told := make(chan string, 64)
	result := make(chan error, 1)
	go func() {
		result <- e.StartGateway(t.Context(), func(ev gatewaylaunch.RestartEvent) {
			if ev.Bind != nil {
				told <- ev.Bind.Text()
			}
		})
	}()
	for _, want := range []string{"bind " + spec.String() + ", SO_REUSEADDR: ok (", "listen " + spec.String() + ", backlog "} {
		select {
		case got := <-told:
			if !strings.HasPrefix(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		case err := <-result:
			t.Fatalf("it ended: %v", err)
		}
	}
	if err := e.StopGateway(t.Context()); err != nil {
		t.Error(err)
	}
	<-result
}
