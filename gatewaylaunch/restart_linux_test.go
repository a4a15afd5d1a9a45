//go:build amd64 || arm64

package gatewaylaunch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/reclaim"
)

var trace = flag.Bool("trace", false, "log the events of each restart")

// shortRestarts is what every run of the tests does. With more, the slow
// servers are restarted too, and each one also in the plain way, to compare.
const shortRestarts = 2

var restarts = flag.Int("restarts", shortRestarts, "how often each server is restarted under load")

func init() { helpers["restart"] = helperRestart }

// client opens a connection every few milliseconds and counts what became of
// them.
type client struct {
	mu      sync.Mutex
	request string // what to send; the server answers and closes

	served, refused, reset int
	// measured is set once a socket has been taken over: the queue of the first
	// server is as short as it made it, and its clients' delays are its own.
	measured bool
	slowest  time.Duration
	odd      error
}

func (c *client) String() string {
	return fmt.Sprintf("%4d served, %3d refused, %2d reset, slowest %v", c.served, c.refused, c.reset, c.slowest.Round(100*time.Microsecond))
}

// once makes one request.
func (c *client) once(addr string) {
	const patience = 20 * time.Second
	began := time.Now()
	c.mu.Lock()
	measured := c.measured
	c.mu.Unlock()
	answer, err := func() (int, error) {
		conn, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		_ = conn.SetDeadline(began.Add(patience))
		request := c.request
		if request == "" {
			request = "GET / HTTP/1.0\r\n\r\n"
		}
		if _, err := io.WriteString(conn, request); err != nil {
			return 0, err
		}
		data, err := io.ReadAll(conn)
		return len(data), err
	}()
	took := time.Since(began)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		c.refused++
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), err == nil && answer == 0:
		c.reset++
	case err != nil:
		c.odd = err
	default:
		c.served++
		if measured {
			c.slowest = max(c.slowest, took)
		}
	}
}

// run connects until ctx ends and waits for the last answer.
func (c *client) run(ctx context.Context, addr string) {
	const every = 2 * time.Millisecond
	var open sync.WaitGroup
	defer open.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			open.Go(func() { c.once(addr) })
		}
	}
}

// needHandOver skips a test on a machine that does not allow a hand-over;
// bindnotify's own tests say why.
func needHandOver(t *testing.T) bindnotify.Support {
	t.Helper()
	support := bindnotify.Supported(t.Context())
	if support.Err != nil {
		t.Skip("not possible here: ", support.Err)
	}
	return support
}

// serving is a server that a Restart has started, or the first one.
type serving struct {
	cancel context.CancelFunc
	ended  chan error
}

// replace restarts whatever holds the address and returns when the new server
// serves alone.
func replace(t *testing.T, addr string, how Handover, command Command, load *client) *serving {
	t.Helper()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.Close() })
	spec := specOf(addr)
	v, err := sys.Why(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	plan := StopOnly(reclaim.NewPlan(v, reclaim.DefaultPolicy(), reclaim.CurrentSelf(t.Context())))
	if !plan.Feasible || len(plan.Targets()) == 0 {
		t.Fatalf("%+v", plan)
	}
	held := reclaim.Hold(reclaim.NewSystem(sys), plan)
	t.Cleanup(held.Close)
	support := needHandOver(t)
	r := Restart{Launcher: Launcher{Command: command, Spec: spec, Kernel: NewKernel(sys)}, How: how, Old: held, Plan: plan, Support: support}
	ctx, cancel := context.WithCancel(context.Background())
	s := &serving{cancel: cancel, ended: make(chan error, 1)}
	done := make(chan struct{})
	var once sync.Once
	var log strings.Builder
	go func() {
		exit, err := r.Run(ctx, func(e RestartEvent) {
			fmt.Fprintf(&log, "%s %s %s", e.At.Format("05.000"), e.Kind, e.Why)
			if e.Stop != nil {
				fmt.Fprintf(&log, " %s", e.Stop.Kind)
			}
			switch e.Kind {
			case RestartAdopted, RestartStop:
				load.mu.Lock()
				load.measured = true
				load.mu.Unlock()
			case RestartLaunch:
				fmt.Fprintf(&log, " %s %s", e.Launch.Kind, e.Launch.Line)
				if how == Plain && e.Launch.Kind == EventReady {
					once.Do(func() { close(done) })
				}
			case RestartBind:
				fmt.Fprintf(&log, " %s %s %s %v %s", e.Bind.Kind, e.Bind.How, e.Bind.Call.Addr, e.Bind.Errno, e.Bind.Why)
			case RestartDone:
				once.Do(func() { close(done) })
			}
			log.WriteByte('\n')
		})
		_ = exit
		s.ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		<-s.ended
	})
	defer func() {
		if *trace {
			t.Log("\n" + log.String())
		}
	}()
	select {
	case <-done:
	case err := <-s.ended:
		s.ended <- err
		t.Fatalf("%v\n%s", err, log.String())
	case <-time.After(20 * time.Second):
		t.Fatal("the new server does not serve")
	}
	return s
}

// first starts the server that berth has nothing to do with.
func first(t *testing.T, addr string, command Command) {
	t.Helper()
	cmd := exec.Command(command.Argv[0], command.Argv[1:]...)
	assigned, program := splitAssignments(command.Argv)
	if len(assigned) > 0 {
		cmd = exec.Command(program[0], program[1:]...)
	}
	cmd.Env, cmd.Dir = command.environ(), command.Dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // at once, as its shell or supervisor would
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestRestartUnderLoad(t *testing.T) {
	hows := []Handover{Overlap, Queue}
	if *restarts > shortRestarts {
		hows = append(hows, Plain)
	}
	for _, server := range servers(t) {
		for _, how := range hows {
			t.Run(server.name+" "+string(how), func(t *testing.T) {
				most := 0
				if server.drops {
					most = *restarts
				}
				addr := freeAddress(t)
				host, port, _ := net.SplitHostPort(addr)
				c := server.command(t, host, port)
				first(t, addr, c)
				load := &client{request: server.request}
				ctx, stop := context.WithCancel(t.Context())
				var loading sync.WaitGroup
				loading.Go(func() { load.run(ctx, addr) })
				for range *restarts {
					replace(t, addr, how, c, load)
				}
				stop()
				loading.Wait()
				t.Logf("%-20s %-8s %d restarts: %v", server.name, how, *restarts, load)
				if load.odd != nil {
					t.Error(load.odd)
				}
				if how != Plain && load.refused > 0 {
					t.Errorf("%d refused", load.refused)
				}
				if how == Overlap && load.reset > most {
					t.Errorf("%d reset", load.reset)
				}
			})
		}
	}
}

// restartOf prepares a restart of what listens on the address.
func restartOf(t *testing.T, addr string, how Handover, command Command) *Restart {
	t.Helper()
	support := needHandOver(t)
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.Close() })
	spec := specOf(addr)
	v, err := sys.Why(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	plan := StopOnly(reclaim.NewPlan(v, reclaim.DefaultPolicy(), reclaim.CurrentSelf(t.Context())))
	held := reclaim.Hold(reclaim.NewSystem(sys), plan)
	t.Cleanup(held.Close)
	return &Restart{
		Launcher: Launcher{Command: command, Spec: spec, Kernel: NewKernel(sys)},
		How:      how, Old: held, Plan: plan, Support: support,
	}
}

func serves(addr string) bool {
	c := &client{}
	c.once(addr)
	return c.served == 1
}

// TestRestartOfACommandThatFails: with overlap nothing has happened to the old
// server, and with queue it is said that nothing serves.
func TestRestartOfACommandThatFails(t *testing.T) {
	for _, how := range []Handover{Overlap, Queue} {
		for name, command := range map[string]Command{
			"exits":        helperCommand("say", "3", "no configuration"),
			"is not there": {Argv: []string{"/nonexistent/server"}},
		} {
			t.Run(string(how)+" "+name, func(t *testing.T) {
				addr := freeAddress(t)
				first(t, addr, helperCommand("http", addr))
				r := restartOf(t, addr, how, command)
				_, err := r.Run(t.Context(), nil)
				var failed *RestartError
				if !errors.As(err, &failed) || failed.OldServes != (how == Overlap) {
					t.Fatalf("%v", err)
				}
				if serves(addr) != (how == Overlap) {
					t.Errorf("after %q the old server serves: %v", err, how != Overlap)
				}
			})
		}
	}
}

// TestRestartAtAnotherAddress: the old server's socket is of no use, so the new
// one waits until the old one has ended.
func TestRestartAtAnotherAddress(t *testing.T) {
	for _, how := range []Handover{Overlap, Queue} {
		t.Run(string(how), func(t *testing.T) {
			addr := freeAddress(t)
			_, port, _ := net.SplitHostPort(addr)
			first(t, addr, helperCommand("http", addr))
			r := restartOf(t, addr, how, helperCommand("http", "0.0.0.0:"+port))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			served := false
			_, err := r.Run(ctx, func(e RestartEvent) {
				if e.Kind == RestartDone {
					served = serves(addr)
					cancel()
				}
			})
			if !served || !errors.Is(err, context.Canceled) {
				t.Errorf("served %v, %v", served, err)
			}
		})
	}
}

// TestRestartWithoutHandOver: the next weaker order is used and said.
func TestRestartWithoutHandOver(t *testing.T) {
	no := &bindnotify.Error{Op: "give a program another socket", Err: errors.ErrUnsupported, Why: "the test says so"}
	for how, support := range map[Handover]bindnotify.Support{
		Queue:   {Watch: true, Hold: true, Err: no},
		Overlap: {Watch: true, Hold: true, Err: no},
		"none":  {Err: no},
	} {
		t.Run(string(how), func(t *testing.T) {
			addr := freeAddress(t)
			first(t, addr, helperCommand("http", addr))
			r := restartOf(t, addr, Overlap, helperCommand("http", addr))
			if how == Queue {
				r.How = Queue
			}
			r.Support = support
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			weaker := ""
			_, err := r.Run(ctx, func(e RestartEvent) {
				switch {
				case e.Kind == RestartWeaker:
					weaker = e.Why
				case e.Kind == RestartLaunch && e.Launch.Kind == EventReady:
					if !serves(addr) {
						t.Error("it does not serve")
					}
					cancel()
				}
			})
			if weaker == "" || !errors.Is(err, context.Canceled) {
				t.Errorf("%q, %v", weaker, err)
			}
		})
	}
}

// helperRestart is a restart that is killed at an event:
// restart ADDRESS HOW LOG EVENT HELPER ARGS….
func helperRestart(args []string) int {
	addr, how, logName, at := args[0], Handover(args[1]), args[2], args[3]
	ctx := context.Background()
	sys, err := netstate.Open()
	if err != nil {
		return say(err)
	}
	defer sys.Close()
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return say(err)
	}
	v, err := sys.Why(ctx, specOf(addr))
	if err != nil {
		return say(err)
	}
	plan := StopOnly(reclaim.NewPlan(v, reclaim.DefaultPolicy(), reclaim.CurrentSelf(ctx)))
	held := reclaim.Hold(reclaim.NewSystem(sys), plan)
	defer held.Close()
	r := Restart{
		Launcher: Launcher{Command: helperCommand(args[4], args[5:]...), Spec: specOf(addr), Kernel: NewKernel(sys), Log: log},
		How:      how, Old: held, Plan: plan, Support: bindnotify.Supported(ctx),
	}
	_, err = r.Run(ctx, func(e RestartEvent) {
		name := string(e.Kind)
		switch {
		case e.Launch != nil:
			name = string(e.Launch.Kind)
		case e.Stop != nil:
			name = string(e.Stop.Kind)
		case e.Bind != nil:
			name = string(e.Bind.Kind)
		}
		if name == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	})
	return say(err)
}

// TestRestartThatIsKilled: whatever the step, one of the servers serves
// afterwards, or none; never one that accepts and does not answer. None is
// right only between the old server's end and the new one's begin.
func TestRestartThatIsKilled(t *testing.T) {
	needHandOver(t)
	for _, how := range []Handover{Overlap, Queue} {
		for _, at := range []string{"adopted", "signal", "exit", "started", "bind", "listen", "done"} {
			t.Run(string(how)+" "+at, func(t *testing.T) {
				addr := freeAddress(t)
				first(t, addr, helperCommand("http", addr))
				c := helperCommand("restart", addr, string(how), t.TempDir()+"/log", at, "http", addr)
				cmd := exec.Command(c.Argv[1], c.Argv[2:]...)
				cmd.Env = c.environ()
				out, err := cmd.CombinedOutput()
				if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("it was not killed: %s, %v", out, err)
				}
				none := how == Queue && (at == "signal" || at == "exit")
				deadline := time.Now().Add(10 * time.Second)
				for {
					load := &client{}
					load.once(addr)
					if load.served == 1 || none && load.refused == 1 {
						break
					}
					if load.odd != nil || time.Now().After(deadline) {
						t.Fatalf("%v: %v", load, load.odd)
					}
				}
				endListeners(t, addr)
			})
		}
	}
}

// endListeners ends what is left on the address, which nobody else would.
func endListeners(t *testing.T, addr string) {
	t.Helper()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	v, err := sys.Why(t.Context(), specOf(addr))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range v.Holders() {
		if err := syscall.Kill(h.ID.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	}
}

// TestOldServerThatShutsItsListenerDown: it goes on with its last clients, and
// new ones are not refused meanwhile.
func TestOldServerThatShutsItsListenerDown(t *testing.T) {
	addr := freeAddress(t)
	first(t, addr, helperCommand("shuts", addr, "300ms"))
	r := restartOf(t, addr, Queue, helperCommand("http", addr))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	load, stop := &client{}, func() {}
	var loading sync.WaitGroup
	_, err := r.Run(ctx, func(e RestartEvent) {
		switch {
		case e.Kind == RestartAdopted:
			// What the old one has queued by now is lost with its listener.
			ctx, end := context.WithTimeout(t.Context(), 250*time.Millisecond)
			stop = end
			loading.Go(func() { load.run(ctx, addr) })
		case e.Kind == RestartDone:
			stop()
			loading.Wait()
			cancel()
		}
	})
	t.Log(load)
	// The shutdown itself is the old server's, and lasts until it is seen.
	if !errors.Is(err, context.Canceled) || load.served == 0 || load.refused > 5 {
		t.Errorf("%v, %v", load, err)
	}
}
