package ui

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/netstate"
	"berth/ui/theme"
)

// TestFocus: a real bind is made only for the page that asks about it, and
// never while something is about to bind the same port.
func TestFocus(t *testing.T) {
	st := start(t)
	focus := func(want uint16) {
		t.Helper()
		got := uint16(0)
		if st.script.focus != nil {
			got = st.script.focus.Port
		}
		if got != want {
			t.Errorf("the engine probes port %d, want %d", got, want)
		}
	}
	focus(0)
	st.press("enter")
	focus(18789)
	st.press("esc", "j", "enter")
	focus(8080)
	st.press("R")
	st.advance(grace)
	st.press("y")
	focus(0)
	st.press("esc")
	st.advance(0)
	st.press("esc", "2")
	focus(0)
}

func TestTicks(t *testing.T) {
	st := start(t)
	if st.m.tickEvery != fast {
		t.Errorf("ticks every %v while countdowns are on the screen, want %v", st.m.tickEvery, fast)
	}
	st.send(tea.BlurMsg{})
	if st.m.tickEvery != slow {
		t.Errorf("ticks every %v while nobody looks, want %v", st.m.tickEvery, slow)
	}
	st.send(tea.FocusMsg{})
	gen := st.m.tickGen
	before := wanted[effectAfter](st)
	st.do(st.m.handle(tickMsg{at: st.now, gen: gen - 1}))
	if wanted[effectAfter](st) != before {
		t.Error("a tick of an older generation started another")
	}
	st.do(st.m.handle(tickMsg{at: st.now, gen: gen}))
	if wanted[effectAfter](st) != before+1 {
		t.Error("a tick did not start the next one")
	}
	o := opts()
	o.NoAnimation = true
	if st := newStage(machine(), o, 100, 30); st.m.tickEvery != slow {
		t.Errorf("ticks every %v without animation, want %v", st.m.tickEvery, slow)
	}
	s := machine()
	s.sockets = nil
	if st := newStage(s, opts(), 100, 30); st.m.tickEvery != slow {
		t.Errorf("ticks every %v while nothing moves, want %v", st.m.tickEvery, slow)
	}
}

// TestCountdown: what is left is the end minus now, at every tick and not
// only at a reading.
func TestCountdown(t *testing.T) {
	st := start(t)
	st.choose(8080)
	st.press("enter")
	st.advance(0)
	expect(t, st, "56.0 s")
	st.advance(300 * time.Millisecond)
	expect(t, st, "55.7 s")
	// The kernel's timer wheel can be late: a socket that is still there when
	// its time is over is ending, not below zero.
	st.m.handle(tickMsg{at: st.now.Add(time.Hour), gen: st.m.tickGen})
	expect(t, st, "ending")
}

func TestSelectionIsAPort(t *testing.T) {
	st := start(t)
	st.choose(5432)
	st.script.add(netstate.Listen, 812, "127.0.0.1:1500", "")
	st.script.add(netstate.Bound, 812, "127.0.0.1:1600", "")
	st.advance(time.Second)
	if r := st.m.ports.row(); r == nil || r.port != 5432 {
		t.Errorf("the cursor is on %+v after rows came, want 5432", r)
	}
	st.press("s")
	if r := st.m.ports.row(); r == nil || r.port != 5432 {
		t.Errorf("the cursor is on %+v after sorting, want 5432", r)
	}
}

func TestRows(t *testing.T) {
	st := start(t)
	ports := func() (ps []uint16) {
		for _, r := range st.m.ports.rows {
			ps = append(ps, r.port)
		}
		return ps
	}
	if got, want := ports(), []uint16{18789, 8080, 9229, 5173, 22, 5432}; !slices.Equal(got, want) {
		t.Errorf("trouble first: %v, want %v", got, want)
	}
	st.press("s")
	if got, want := ports(), []uint16{18789, 22, 5173, 5432, 8080, 9229}; !slices.Equal(got, want) {
		t.Errorf("by port: %v, want %v", got, want)
	}
	st.press("A")
	if got := len(ports()); got != st.m.ports.total {
		t.Errorf("all: %d rows of %d", got, st.m.ports.total)
	}
	st.press("A", "/", "p", "o", "s", "t", "g")
	if got := ports(); !slices.Equal(got, []uint16{5432}) {
		t.Errorf("filter postg: %v", got)
	}
	st.press("esc", "/", "t", "i", "m", "e", "_", "w")
	if got := ports(); !slices.Equal(got, []uint16{18789, 8080}) {
		t.Errorf("filter time_w: %v", got)
	}
	st.press("esc", "/", "3", "3", "0", "7")
	if got := ports(); !slices.Equal(got, []uint16{9229}) {
		t.Errorf("filter by pid 3307: %v", got)
	}
	// The end of somebody's outgoing connection is not a server's port, but
	// it stays in sight if a server was seen there.
	st.press("esc")
	st.script.sockets = slices.DeleteFunc(st.script.sockets, func(k scriptSocket) bool { return k.Local.Port() == 18789 })
	st.advance(time.Second)
	if got := ports(); got[0] != 18789 {
		t.Errorf("the gateway's port has no row although nothing is there: %v", got)
	}
}

func TestPause(t *testing.T) {
	st := start(t)
	st.press("p")
	before := st.m.shown.At
	st.script.sockets = nil
	st.advance(3 * time.Second)
	if st.m.shown.At != before || st.m.obs.At == before {
		t.Error("a paused screen changed, or the data stopped coming")
	}
	expect(t, st, "PAUSED 3 s", "node 4211")
	st.press("p")
	if st.sees("node 4211") {
		t.Error("the screen still shows the past after the pause")
	}
}

func TestStaleData(t *testing.T) {
	st := start(t)
	st.script.readErr = errors.New("the table is gone")
	st.advance(7 * time.Second)
	expect(t, st, "the table is gone", "what you see is 7 s old", "node 4211")
	if s, ok := st.m.past.of(placeID{port: 18789}).when(st.now); ok {
		t.Errorf("the history knows %+v of a time in which nothing could be read", s)
	}
	st.script.readErr = nil
	st.advance(time.Second)
	if st.sees("the table is gone") {
		t.Error("the banner stays after a good reading")
	}
}

func TestEngineEnds(t *testing.T) {
	st := start(t)
	st.send(observationMsg{ended: true})
	expect(t, st, "no longer updated")
	st.press("q")
	if !st.ended {
		t.Error("q did not quit after the engine had ended")
	}
}

// TestTinyTerminal: on a terminal that shows one sentence the three keys that
// matter still work.
func TestTinyTerminal(t *testing.T) {
	st := newStage(free(), Options{Theme: theme.Mono(), User: "ada"}, 20, 5)
	t.Cleanup(st.close)
	expect(t, st, "cannot be bound")
	st.press("R")
	st.advance(grace)
	expect(t, st, "Free 18789", "y go", "n cancel")
	st.press("y")
	st.advance(200 * time.Millisecond)
	expect(t, st, "esc stops")
	st.press("esc")
	st.advance(0)
	st.press("esc", "q")
	if !st.ended {
		t.Error("q did not quit")
	}
}

// TestTerminalWithoutASize: a serial console says 0×0 and shows something all
// the same.
func TestTerminalWithoutASize(t *testing.T) {
	st := start(t)
	st.send(tea.WindowSizeMsg{})
	if lines := strings.Split(st.m.View(), "\n"); len(lines) != 24 || !strings.Contains(lines[0], "berth") {
		t.Errorf("the view has %d lines", len(lines))
	}
}
