package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// running reports whether a process runs: a zombie does not.
func running(pid int) bool {
	d, err := readProcess(pid)
	return err == nil && !d.zombie
}

func TestParseStat(t *testing.T) {
	const tail = " 42 40 40 34816 40 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 0 0"
	for in, want := range map[string]descendant{
		"41 (node) S" + tail:          {pid: 41, parent: 42, group: 40, session: 40, start: 987654},
		"41 (a) b (c) Z" + tail:       {pid: 41, parent: 42, group: 40, session: 40, start: 987654, zombie: true},
		"41 () S 1 1 1) X" + tail:     {pid: 41, parent: 42, group: 40, session: 40, start: 987654, zombie: true},
		"41 (node) S 42 40 40 34816 ": {},
		"41 node S" + tail:            {},
		"":                            {},
		")(":                          {},
		"x (node) S" + tail:           {},
	} {
		if got, err := parseStat([]byte(in)); got != want || (err == nil) != (want.pid != 0) {
			t.Errorf("parseStat(%q) = %+v, %v", in, got, err)
		}
	}
	d, err := readProcess(os.Getpid())
	if err != nil || d.pid != os.Getpid() || d.parent != os.Getppid() || d.start == 0 || d.zombie {
		t.Errorf("this process is %+v, %v", d, err)
	}
}

// marked adds a variable to the command's environment by which all that it
// starts can be found, wherever it hides.
func marked(t *testing.T, c Command) (Command, string) {
	mark := fmt.Sprintf("GATEWAYLAUNCH_MARK=%s %d", t.Name(), time.Now().UnixNano())
	c.Argv = append([]string{mark}, c.Argv...)
	return c, mark
}

// survivors returns the living processes that carry the mark.
func survivors(t *testing.T, mark string) (alive []descendant) {
	t.Helper()
	for _, d := range readProcesses() {
		env, err := os.ReadFile("/proc/" + strconv.Itoa(d.pid) + "/environ")
		if err == nil && !d.zombie && slices.Contains(strings.Split(string(env), "\x00"), mark) {
			alive = append(alive, d)
		}
	}
	return alive
}

// endSurvivors ends what a test started and leaves on purpose.
func endSurvivors(t *testing.T, mark string) (n int) {
	t.Helper()
	alive := survivors(t, mark)
	for _, d := range alive {
		signalProcess(d, syscall.SIGKILL)
	}
	return len(alive)
}

// noChildren fails if this process has a child left, dead or alive.
func noChildren(t *testing.T) {
	t.Helper()
	for _, d := range readProcesses() {
		if d.parent == os.Getpid() {
			t.Errorf("a child is left: %+v", d)
		}
	}
}

// Cancelling at any moment leaves nothing behind: no process, no zombie.
func TestCancelAtEachEvent(t *testing.T) {
	held := listenLoopback(t).Addr().String()
	for name, gateway := range map[string]func(addr string) (Command, string){
		"a tree that becomes ready": func(addr string) (Command, string) {
			return helperCommand("spawn", "stay", "detached", "spawn", "stay", "session", "serve", addr), addr
		},
		"one that is refused": func(string) (Command, string) { return helperCommand("serve", held), held },
	} {
		t.Run(name, func(t *testing.T) {
			k := realKernel(t)
			for n, seen := 1, true; seen; n++ {
				seen = false
				c, addr := gateway(freeAddress(t))
				c, mark := marked(t, c)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				count, kind := 0, EventKind("")
				var last Event
				l := Launcher{Command: c, Spec: specOf(addr), Retry: Retry{Retries: 1, Interval: time.Millisecond}, Kernel: k}
				_, err := l.Run(ctx, func(e Event) {
					last = e
					if count++; count == n {
						seen, kind = true, e.Kind
						cancel()
					} else if e.Kind == EventReady && count < n {
						// The gateway is quiet from now on.
						cancel()
					}
				})
				if seen && !errors.Is(err, context.Canceled) && kind != EventFailed && !errors.Is(err, syscall.EADDRINUSE) {
					t.Errorf("cancelled at event %d (%s): error %v", n, kind, err)
				}
				if seen && err == context.Canceled && last.Kind != EventStopped {
					t.Errorf("cancelled at event %d (%s): the last event is %s", n, kind, last.Kind)
				}
				if left := endSurvivors(t, mark); left > 0 {
					t.Errorf("cancelled at event %d (%s): %d processes are left", n, kind, left)
				}
				noChildren(t)
				cancel()
				if n > 40 {
					t.Fatal("the launch never runs out of events")
				}
			}
		})
	}
}

func TestGraceThenKill(t *testing.T) {
	c, mark := marked(t, helperCommand("spawn", "stay", "detached", "stay"))
	var stopped time.Time
	r := launch(t, Launcher{Command: c, Spec: anySpec, Kernel: &scripted{}, Grace: 150 * time.Millisecond}, func(e Event, stop func()) {
		if e.Line == "staying" {
			stopped = time.Now()
			stop()
		}
	})
	e := r.first(EventStopped)
	if took := e.At.Sub(stopped); took < 150*time.Millisecond || e.Took > took {
		t.Errorf("stopped after %v (the event says %v), want the grace of 150 ms first", took, e.Took)
	}
	if n := endSurvivors(t, mark); n > 0 {
		t.Errorf("%d processes that ignore SIGTERM are left", n)
	}
}

// What a failed gateway leaves in its session is ended with it, since it
// could hold the port; what one leaves that ended well may be a daemon.
func TestLeftovers(t *testing.T) {
	c, mark := marked(t, helperCommand("spawn", "1", "session", "stay", "quiet"))
	r := launch(t, Launcher{Command: c, Spec: anySpec, Kernel: &scripted{}, Grace: time.Millisecond}, nil)
	if n := endSurvivors(t, mark); n > 0 || r.status.Code != 1 || r.err != nil {
		t.Errorf("status %v, error %v, %d processes are left", r.status, r.err, n)
	}
	c, mark = marked(t, helperCommand("spawn", "0", "session", "stay", "quiet"))
	r = launch(t, Launcher{Command: c, Spec: anySpec, Kernel: &scripted{}, Grace: time.Millisecond}, nil)
	if n := endSurvivors(t, mark); n != 1 || r.status.Code != 0 || r.err != nil {
		t.Errorf("status %v, error %v, %d processes are left, want the daemon", r.status, r.err, n)
	}
}

// A daemon outside the session keeps the pipes open. It is quiet, because
// nobody reads them any more.
func TestDescendantKeepsThePipeOpen(t *testing.T) {
	for _, status := range []string{"0", "5"} {
		c, mark := marked(t, helperCommand("spawn", status, "detached", "stay", "quiet"))
		r := launch(t, Launcher{Command: c, Spec: anySpec, Kernel: &scripted{}}, nil)
		if r.err != nil || strconv.Itoa(r.status.Code) != status {
			t.Errorf("status %v, error %v, want %s", r.status, r.err, status)
		}
		if took := r.first(EventExited).At.Sub(r.first(EventStarted).At); took > 2*time.Second {
			t.Errorf("the launch hung for %v on the daemon's pipe", took)
		}
		if n := endSurvivors(t, mark); n != 1 {
			t.Errorf("%d processes are left, want the daemon, which left session and parent", n)
		}
	}
}

func TestTie(t *testing.T) {
	// The gateway ignores SIGTERM and reads its input. Ending the launch
	// closes the input long before the grace is over.
	var stopped time.Time
	r := launch(t, Launcher{Command: helperCommand("stay", "until-eof"), Spec: anySpec, Kernel: &scripted{}, Tie: true, Grace: 20 * time.Second}, func(e Event, stop func()) {
		if e.Line == "staying" {
			stopped = time.Now()
			stop()
		}
	})
	if r.kinds() != "attempt started stopped" || r.status.Code != 0 {
		t.Errorf("events %s, status %v", r.kinds(), r.status)
	}
	if took := r.first(EventStopped).At.Sub(stopped); took > 10*time.Second {
		t.Errorf("ended only after %v", took)
	}
	// Without a tie there is nothing to read from the start.
	r = launch(t, Launcher{Command: helperCommand("stay", "until-eof"), Spec: anySpec, Kernel: &scripted{}}, nil)
	if r.kinds() != "attempt started exited" {
		t.Errorf("events %s", r.kinds())
	}
}
