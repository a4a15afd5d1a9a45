package ui

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/ui/theme"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a screen with testdata/name.golden, line by line.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	w := strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n"), "\n")
	g := strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			t.Errorf("%s line %d\n want %q\n got  %q", path, i+1, a, b)
		}
	}
}

var looks = []theme.Theme{theme.ANSI(), theme.Mono(), theme.Mono().WithASCII()}

func lookName(th theme.Theme) string {
	if th.ASCII {
		return "ascii"
	}
	return th.Name
}

func TestPages(t *testing.T) {
	for _, page := range []string{"overview", "port", "reclaim-dialog", "reclaim-running", "gateway", "handover-dialog", "handover-running", "handover", "help"} {
		for _, look := range looks {
			t.Run(page+"/"+lookName(look), func(t *testing.T) {
				t.Parallel()
				st := perform(page, 100, 30, look)
				defer st.close()
				for _, size := range [][2]int{{100, 30}, {80, 24}, {60, 20}, {40, 10}} {
					st.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
					golden(t, fmt.Sprintf("pages/%s_%dx%d_%s", page, size[0], size[1], lookName(look)), st.view())
				}
			})
		}
	}
}

// TestScenes pins what the README shows: each still, and the film at the
// moments that it is about.
func TestScenes(t *testing.T) {
	for _, s := range Scenes() {
		if len(s.Frames) == 1 {
			golden(t, "scenes/"+s.Name, s.Frames[0].View)
			continue
		}
		for i, moment := range []struct{ name, text string }{
			{"asked", "Free 18789 and start the gateway?"},
			{"signalled", "left of 3.0 s, then SIGKILL"},
			{"refused", "refused by TIME-WAIT"},
			{"bindable", "✓ bindable"},
			{"serving", "✓ done in"},
		} {
			found := ""
			for _, f := range s.Frames {
				if strings.Contains(plain(f.View), moment.text) {
					found = f.View // the last one that shows it
				}
			}
			if found == "" {
				t.Errorf("%s: no frame shows %q", s.Name, moment.text)
				continue
			}
			golden(t, fmt.Sprintf("scenes/%s-%d-%s", s.Name, i+1, moment.name), found)
		}
	}
}

// stateCases are the states that every screen can be in, with the way there.
var stateCases = map[string]func(*testing.T) *stage{
	"loading": func(t *testing.T) *stage {
		st := silent(80, 24)
		if st.sees("reading") {
			t.Error("says that it is reading before that takes long")
		}
		st.advance(slowAfter)
		return st
	},
	"read-error-first": func(*testing.T) *stage {
		s := machine()
		s.readErr = &netstate.OpError{Op: "read the socket table", Err: errors.New("permission denied"), Hint: "run as root"}
		return newStage(s, opts(), 80, 24)
	},
	"read-error-stale": func(*testing.T) *stage {
		st := mono("overview", 80, 24)
		st.script.readErr = &netstate.OpError{Op: "read the socket table", Err: errors.New("permission denied"), Hint: "run as root"}
		st.advance(12 * time.Second)
		return st
	},
	"empty": func(*testing.T) *stage {
		s := machine()
		s.sockets, s.hidden = nil, 0
		return newStage(s, opts(), 80, 24)
	},
	"empty-port": func(*testing.T) *stage {
		s := machine()
		s.sockets, s.hidden = nil, 0
		st := newStage(s, opts(), 80, 24)
		st.press("enter")
		st.advance(0)
		return st
	},
	"filtered": func(*testing.T) *stage {
		st := mono("overview", 80, 24)
		st.press("/", "p", "o", "s", "t", "enter")
		return st
	},
	"filtered-to-nothing": func(*testing.T) *stage {
		st := mono("overview", 80, 24)
		st.press("/", "z", "z")
		return st
	},
	"paused": func(*testing.T) *stage {
		st := mono("overview", 80, 24)
		st.press("p")
		st.advance(12 * time.Second)
		return st
	},
	"no-timers": func(*testing.T) *stage {
		s := machine()
		s.caps.Timers = false
		s.caps.Notes = []string{"this system does not show the timers of TIME-WAIT sockets: they last up to 60 s"}
		st := newStage(s, opts(), 80, 24)
		st.m.handle(observationMsg{obs: withoutTimers(s.observe(s.now))})
		st.m.openPort(place{port: netstate.DefaultPort})
		st.m.settle()
		return st
	},
	"lingering": func(*testing.T) *stage {
		st := mono("overview", 100, 30)
		st.press("j", "enter")
		st.advance(time.Second)
		return st
	},
	"bound": func(*testing.T) *stage {
		st := mono("overview", 100, 30)
		st.press("j", "j", "enter")
		st.advance(time.Second)
		return st
	},
	"several-holders": func(*testing.T) *stage {
		s := machine()
		for pid := 4300; pid < 4304; pid++ {
			h := s.procs[4211]
			h.ID.PID, h.Name = pid, "worker"
			s.procs[pid] = h
			k := s.add(netstate.Listen, pid, "127.0.0.1:18789", "")
			k.Inode = s.sockets[0].Inode
		}
		st := newStage(s, opts(), 100, 30)
		st.press("x", "j")
		return st
	},
	"dialog-planning": func(t *testing.T) *stage {
		st := mono("overview", 80, 24)
		st.m.handle(keyMsg("r")) // the engine does not answer
		id := st.m.dialog.id
		if st.sees("looking at") {
			t.Error("says that it is planning before that takes long")
		}
		st.m.handle(slowMsg{at: st.now, id: id})
		return st
	},
	"dialog-typed": func(*testing.T) *stage {
		st := newStage(postgresAsRoot(), opts(), 80, 24)
		st.choose(5432)
		st.press("r")
		st.advance(grace)
		st.press("p", "o", "s", "t")
		return st
	},
	"dialog-infeasible": func(*testing.T) *stage {
		st := mono("overview", 80, 24)
		st.choose(5432)
		st.press("r")
		st.advance(grace)
		return st
	},
	"dialog-nothing-to-do": func(*testing.T) *stage {
		s := machine()
		s.sockets = nil
		st := newStage(s, opts(), 80, 24)
		st.press("r")
		st.advance(grace)
		return st
	},
	"dialog-start": func(*testing.T) *stage {
		s := machine()
		s.sockets = nil
		st := newStage(s, opts(), 80, 24)
		st.press("R")
		st.advance(grace)
		return st
	},
	"dialog-handover-overlap": func(*testing.T) *stage {
		st := mono("handover-dialog", 80, 24)
		st.press("o")
		return st
	},
	"dialog-handover-plain": func(*testing.T) *stage {
		st := mono("overview", 80, 24)
		st.script.support = bindnotify.Support{NoNewPrivs: true, Err: errors.New("seccomp filters are forbidden here, perhaps by the container's own profile")}
		st.press("H")
		st.advance(grace)
		return st
	},
	"handover-failed": func(*testing.T) *stage {
		st := mono("overview", 80, 24)
		st.script.fails = &gatewaylaunch.RestartError{Exit: gatewaylaunch.ExitStatus{Code: 1}, OldServes: true}
		handOver(st, "o", "y")
		return st
	},
	"handover-gateway": func(*testing.T) *stage {
		st := mono("handover", 80, 24)
		st.press("2")
		return st
	},
	"dialog-quit": func(*testing.T) *stage {
		st := mono("reclaim-running", 80, 24)
		st.press("q")
		st.advance(grace)
		return st
	},
	"run-stopped": func(*testing.T) *stage {
		st := mono("reclaim-running", 80, 24)
		st.press("esc")
		st.advance(0)
		return st
	},
	"run-timeout": func(*testing.T) *stage {
		st := mono("reclaim-running", 80, 24)
		for i := range st.script.sockets {
			if k := &st.script.sockets[i]; k.ReuseAddr == netstate.No && k.Local.Port() == netstate.DefaultPort {
				k.until = k.until.Add(20 * time.Second) // a segment has restarted its timer
			}
		}
		st.advance(4 * time.Second)
		return st
	},
	"gateway-held": func(*testing.T) *stage {
		st := newStage(machine(), opts(), 80, 24)
		st.press("2", "L")
		st.advance(1200 * time.Millisecond)
		return st
	},
	"gateway-refused": func(*testing.T) *stage {
		st := newStage(machine(), opts(), 80, 24)
		st.press("2")
		id := st.launchID()
		at := st.script.time()
		for _, e := range []gatewaylaunch.Event{
			{Kind: gatewaylaunch.EventAttempt},
			{Kind: gatewaylaunch.EventStarted, PID: 5377},
			{Kind: gatewaylaunch.EventOutput, Stream: gatewaylaunch.Stderr, Line: "Error: listen EADDRINUSE: address already in use 127.0.0.1:18789"},
			{Kind: gatewaylaunch.EventExited, Exit: gatewaylaunch.ExitStatus{Code: 1}, Took: 600 * time.Millisecond},
			{Kind: gatewaylaunch.EventInUse},
			{Kind: gatewaylaunch.EventRetry, Wait: 2 * time.Second},
		} {
			e.At, e.Attempt, e.Of = at, 1, 5
			st.send(launchMsg{id, e})
		}
		return st
	},
	"gateway-healthy": func(*testing.T) *stage { return healthy() },
	"gateway-hung": func(*testing.T) *stage {
		st := healthy()
		st.send(launchMsg{st.m.gateway.id, gatewaylaunch.Event{
			At: st.script.time(), Kind: gatewaylaunch.EventHung, State: gatewaylaunch.StateHung, PID: 5377,
			Err: &gatewaylaunch.HungError{Addr: "127.0.0.1:18789", Waiting: 7, Since: 2, Took: 6 * time.Second},
		}})
		return st
	},
	"gateway-found": func(*testing.T) *stage {
		st := newStage(machine(), opts(), 80, 24)
		st.press("2")
		id := st.launchID()
		for _, e := range []gatewaylaunch.Event{
			{Kind: gatewaylaunch.EventFound, PID: 4211},
			{Kind: gatewaylaunch.EventReady, PID: 4211, Line: "127.0.0.1:18789"},
		} {
			e.At = st.script.time()
			st.send(launchMsg{id, e})
		}
		return st
	},
	"dialog-leave": func(*testing.T) *stage {
		st := healthy()
		st.press("q")
		st.advance(grace)
		return st
	},
	"gateway-failed": func(*testing.T) *stage {
		st := newStage(machine(), opts(), 80, 24)
		st.press("2", "L")
		st.advance(10 * time.Second)
		return st
	},
	"gateway-exited": func(*testing.T) *stage {
		st := mono("gateway", 80, 24)
		st.press("x")
		st.advance(grace)
		st.press("y")
		st.advance(2 * time.Second)
		return st
	},
	"tiny": func(*testing.T) *stage { return mono("overview", 20, 5) },
	"tiny-dialog": func(*testing.T) *stage {
		return mono("reclaim-dialog", 20, 5)
	},
	"tiny-running": func(*testing.T) *stage { return mono("reclaim-running", 20, 5) },
}

func TestStates(t *testing.T) {
	for name, way := range stateCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := way(t)
			defer st.close()
			golden(t, "states/"+name, st.view())
		})
	}
}

// launchID makes the model believe that it has started a gateway, whose events
// the test then sends itself.
func (st *stage) launchID() int {
	g := &st.m.gateway
	g.id, g.alive = st.m.newID(), true
	return g.id
}

// healthy is a gateway that was asked for its health.
func healthy() *stage {
	s := machine()
	s.sockets = nil
	st := newStage(s, opts(), 80, 24)
	st.press("2")
	id := st.launchID()
	for _, e := range []gatewaylaunch.Event{
		{Kind: gatewaylaunch.EventAttempt},
		{Kind: gatewaylaunch.EventStarted, PID: 5377},
		{Kind: gatewaylaunch.EventListening, State: gatewaylaunch.StateListening, PID: 5377, Line: "127.0.0.1:18789"},
		{Kind: gatewaylaunch.EventReady, State: gatewaylaunch.StateHealthy, PID: 5377, Line: "127.0.0.1:18789"},
	} {
		e.At, e.Attempt, e.Of = s.time(), 1, 5
		st.send(launchMsg{id, e})
	}
	return st
}

func opts() Options {
	return Options{Theme: theme.Mono(), Hostname: "dev-7", Kernel: "linux 6.18", Version: "0.1.0", User: "ada"}
}

func mono(page string, w, h int) *stage { return perform(page, w, h, theme.Mono()) }

// silent is a stage whose engine does not answer.
func silent(w, h int) *stage {
	s := machine()
	st := &stage{m: newModel(s, opts()), script: s, now: s.now}
	st.do(st.m.start())
	st.waiting = false
	st.send(tea.WindowSizeMsg{Width: w, Height: h})
	return st
}

// choose moves the cursor to a port by keys.
func (st *stage) choose(port uint16) {
	st.press("g")
	for range st.m.ports.rows {
		if r := st.m.ports.row(); r != nil && r.port == port {
			return
		}
		st.press("j")
	}
}

// postgresAsRoot is the machine as root sees it: everybody's processes can be
// signalled, so a name has to be typed.
func postgresAsRoot() *script {
	s := machine()
	h := s.procs[812]
	h.UID = 1000 // the planner knows databases by name
	s.procs[812] = h
	return s
}

func withoutTimers(o Observation) Observation {
	sockets := append([]netstate.Socket(nil), o.Snapshot.Sockets...)
	for i := range sockets {
		sockets[i].Timer, sockets[i].Expires = netstate.TimerNone, 0
	}
	o.Snapshot = netstate.NewSnapshot(o.At, sockets, o.Snapshot.Caps)
	return o
}
