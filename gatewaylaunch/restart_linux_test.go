//go:build amd64 || arm64

package gatewaylaunch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
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

// client opens a connection every few milliseconds and counts what became of
// them.
type client struct {
	mu      sync.Mutex
	request string // what to send; the server answers and closes

	killed                 bool // an old server did not end within its grace
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
	var plan reclaim.Plan
	// The launch of the server that is to go now belongs to this process, too,
	// and duplicates its listener for an instant to read its options.
	for deadline := time.Now().Add(5 * time.Second); !plan.Feasible || len(plan.Targets()) == 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", plan)
		}
		v, err := sys.Why(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		plan = StopOnly(reclaim.NewPlan(v, reclaim.DefaultPolicy(), reclaim.CurrentSelf(t.Context())))
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
				if e.Stop.Kind == reclaim.EventSignal && e.Stop.Signal == "SIGKILL" {
					load.mu.Lock()
					load.killed = true
					load.mu.Unlock()
				}
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
				// With queue, an old server that had to be killed at the end of
				// its grace resets whom it still served; nothing else excuses one.
				if (how == Overlap || how == Queue && !load.killed) && load.reset > 0 {
					t.Errorf("%d reset", load.reset)
				}
			})
		}
	}
}
