//go:build amd64 || arm64

package gatewaylaunch

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/reclaim"
)

func init() { helpers["restart"] = helperRestart }

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

// TestRestartWhoseNewServerDiesAtOnce: it has listened, and its clients are
// lost; the old server was not told to end, has its queue again, and serves.
func TestRestartWhoseNewServerDiesAtOnce(t *testing.T) {
	addr := freeAddress(t)
	first(t, addr, helperCommand("http", addr))
	// A connection without a request keeps the old server for half a second.
	idle, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	r := restartOf(t, addr, Overlap, helperCommand("http", addr))
	way := Way("")
	pid := 0
	_, err = r.Run(t.Context(), func(e RestartEvent) {
		switch {
		case e.Kind == RestartAdopted:
			way = e.Way
		case e.Bind != nil && e.Bind.Kind == bindnotify.KindListen:
			pid = e.Bind.Call.PID
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	var failed *RestartError
	if !errors.As(err, &failed) || !failed.OldServes || !failed.Listened || way != WaySuccessor {
		t.Errorf("%s, %v", way, err)
	}
	for range 20 {
		if !serves(addr) {
			t.Fatal("the old server does not serve")
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
