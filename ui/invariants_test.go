package ui

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/netstate/netns"
	"berth/reclaim"
	"berth/ui/draw"
	"berth/ui/theme"
)

// hostile are names that a process may choose to hurt whoever looks at it.
var hostile = []string{
	"\x1b[2J\x1b[31mred\x1b]0;title\x07",
	"line\nfeed\r\ttab\x00nul",
	"日本語のプロセス名",
	"👩‍👩‍👧‍👦🇩🇪👍🏽✌️",
	"e\u0301\u0302\u0303\u0304\u0305\u0306zalgo",
	"\u202egnirts\u2066\u200b\u2060",
	"\xff\xfe\xc3(",
	strings.Repeat("spaghetti ", 410),
	strings.Repeat("漢", 2048),
	"",
}

// hostileMachine has every one of these names wherever a text can come from.
func hostileMachine() *script {
	s := machine()
	pids := []int{4211, 812, 640, 5102, 3307}
	for i, text := range hostile {
		pid := pids[i%len(pids)]
		if i >= len(pids) {
			pid = 6000 + i
			h := s.procs[4211]
			h.ID.PID = pid
			s.procs[pid] = h
			s.add(netstate.Listen, pid, fmt.Sprintf("127.0.0.1:%d", 7000+i), "")
			k := s.add(netstate.Listen, pid, "127.0.0.1:18789", "")
			k.Inode = s.sockets[0].Inode
		}
		h := s.procs[pid]
		h.Name, h.User, h.Cwd, h.Unit, h.Container = text, text, text, text, text
		h.Cmdline = []string{text, text}
		h.Parents = []netstate.Parent{{PID: 2, Name: text}}
		s.procs[pid] = h
	}
	for i, text := range hostile {
		s.spaces = append(s.spaces, netns.Namespace{ID: uint64(100 + i), Name: text})
		for _, port := range []int{7000, 18789} {
			s.add(netstate.Listen, 6005+i%5, fmt.Sprintf("127.0.0.1:%d", port), "").netns = uint64(100 + i)
		}
	}
	s.note = hostile[0]
	s.info.Command = append(s.info.Command, hostile...)
	s.info.Log, s.info.Dir = hostile[0], hostile[1]
	return s
}

// unstyled takes the styles from a row, and names what must not be in it: any
// control character, any escape sequence but SGR, in the look without colour
// any SGR but reset, bold, faint and reverse, in ASCII anything else.
func unstyled(row string, th theme.Theme) (text, bad string) {
	allowed := " 0 1 2 7 "
	if th.Name == "ansi" {
		allowed = " 0 1 2 7 31 33 34 35 36 "
	}
	var b strings.Builder
	for row != "" {
		if params, ok := strings.CutPrefix(row, "\x1b["); ok {
			seq, rest, found := strings.Cut(params, "m")
			for _, p := range strings.Split(seq, ";") {
				if !found || !strings.Contains(allowed, " "+p+" ") {
					return "", fmt.Sprintf("escape sequence %q", seq)
				}
			}
			row = rest
			continue
		}
		r, n := utf8.DecodeRuneInString(row)
		if r < 0x20 || 0x7f <= r && r < 0xa0 || th.ASCII && r > 0x7e {
			return "", fmt.Sprintf("%q", r)
		}
		b.WriteString(row[:n])
		row = row[n:]
	}
	return b.String(), ""
}

// check asserts what holds for every screen of every size.
func check(t *testing.T, st *stage, w, h int) {
	t.Helper()
	view := st.view()
	if w <= 0 || h <= 0 {
		if view != "" {
			t.Errorf("%d×%d: %q, want nothing", w, h, view)
		}
		return
	}
	rows := strings.Split(view, "\n")
	if len(rows) > h {
		t.Errorf("%d×%d: %d rows", w, h, len(rows))
	}
	for i, row := range rows {
		text, bad := unstyled(row, st.m.th)
		if bad != "" {
			t.Errorf("%d×%d row %d: %s in %q", w, h, i, bad, row)
		}
		// draw.Width knows berth's own glyphs to be one cell, which its own
		// test checks; all else is measured in the two ways of terminals.
		n := draw.Width(text)
		if n > w {
			t.Errorf("%d×%d row %d: %d cells: %q", w, h, i, n, row)
		}
		if n != utf8.RuneCountInString(text) {
			if wc := ansi.StringWidthWc(text); n != wc {
				t.Errorf("%d×%d row %d: terminals disagree about its width: %d or %d cells: %q", w, h, i, n, wc, row)
			}
		}
	}
	if w >= minWidth && h >= minHeight && st.m.dialog == nil && !st.m.help.open {
		if last := plain(rows[len(rows)-1]); len(rows) != h || !strings.Contains(last, "? help") {
			t.Errorf("%d×%d: no footer in the last of %d rows: %q", w, h, len(rows), last)
		}
	}
}

// screens are ways to everything that can be on the screen.
var screens = map[string]func(*stage){
	"overview": func(*stage) {},
	"all":      func(st *stage) { st.press("A", "s", "G") },
	"filter":   func(st *stage) { st.press("/", "1") },
	"port":     func(st *stage) { st.press("enter"); st.advance(time.Second) },
	"holders":  func(st *stage) { st.press("enter", "tab", "j", "j"); st.advance(time.Second) },
	"namespaces": func(st *stage) {
		st.press("n", "A")
		st.advance(0)
		st.press("s", "j", "j", "j")
	},
	"namespace": func(st *stage) {
		st.press("n")
		st.advance(0)
		st.find(place{st.script.spaces[0], 18789})
		st.press("enter")
		st.advance(time.Second)
	},
	"namespace-run": func(st *stage) {
		st.press("n")
		st.advance(0)
		spec := st.script.Spec(st.script.spaces[7], 18789)
		st.m.begin(planOf(st, PlanRequest{Spec: spec}), false, 0)
		st.do(st.m.out)
		st.advance(300 * time.Millisecond)
	},
	"namespace-dialog": func(st *stage) {
		st.press("n")
		st.advance(0)
		st.find(place{st.script.spaces[3], 7000})
		st.press("r")
		st.advance(grace)
	},
	"dialog": func(st *stage) { st.press("R"); st.advance(grace) },
	"kill":   func(st *stage) { st.press("enter"); st.advance(time.Second); st.press("x"); st.advance(grace) },
	"handover": func(st *stage) {
		st.m.ask(dialogHandOver, PlanRequest{Spec: st.script.info.Spec, HandOver: true})
		st.do(st.m.out)
		st.advance(grace)
		st.m.dialog.plan.Feasible, st.m.dialog.plan.Typed = true, ""
		st.press("o", "y")
		st.advance(2 * time.Second)
	},
	"handover-dialog": func(st *stage) {
		st.press("H")
		st.advance(grace)
	},
	"help": func(st *stage) { st.press("?", "j", "j") },
	"running": func(st *stage) {
		st.m.begin(mustPlan(st), true, 0)
		st.do(st.m.out)
		st.advance(2300 * time.Millisecond)
	},
	"served": func(st *stage) {
		st.m.begin(mustPlan(st), true, 0)
		st.do(st.m.out)
		st.advance(8 * time.Second)
	},
	"quit": func(st *stage) {
		st.m.begin(mustPlan(st), true, 0)
		st.do(st.m.out)
		st.press("q")
		st.advance(grace)
	},
	"gateway": func(st *stage) {
		st.press("2")
		for i, text := range hostile {
			st.send(launchMsg{st.m.gateway.id, gatewaylaunch.Event{At: st.now, Kind: gatewaylaunch.EventOutput, Line: text, Stream: gatewaylaunch.Stderr, Attempt: i}})
		}
		st.send(launchMsg{st.m.gateway.id, gatewaylaunch.Event{At: st.now, Kind: gatewaylaunch.EventFailed, Err: errors.New(hostile[0])}})
	},
	"error": func(st *stage) {
		st.script.readErr = &netstate.OpError{Op: "read", Err: errors.New(hostile[0]), Hint: hostile[2]}
		st.advance(3 * time.Second)
	},
}

func mustPlan(st *stage) reclaim.Plan {
	return planOf(st, PlanRequest{Spec: st.script.info.Spec, Restart: true})
}

func planOf(st *stage, req PlanRequest) reclaim.Plan {
	plan, err := st.script.plan(req)
	if err != nil {
		panic(err)
	}
	plan.Feasible = true // this is about drawing, not about rights
	return plan
}

// dense are the screens that are drawn at nearly every size, once.
var dense = map[string]bool{"overview": true, "port": true, "namespaces": true}

// TestEverySize draws every screen of a hostile machine at every size.
func TestEverySize(t *testing.T) {
	for name, way := range screens {
		for _, look := range looks {
			t.Run(name+"/"+lookName(look), func(t *testing.T) {
				t.Parallel()
				st := newStage(hostileMachine(), Options{Theme: look, Hostname: hostile[0], Kernel: hostile[3], Version: hostile[4], User: "ada"}, 100, 30)
				defer st.close()
				st.advance(3 * time.Second)
				way(st)
				for w := 1; w <= 120; w++ {
					for h := 1; h <= 40; h++ {
						if !worthDrawing(w, h, look.Name == "mono" && !look.ASCII && dense[name]) {
							continue
						}
						st.m.width, st.m.height = w, h
						st.m.settle()
						check(t, st, w, h)
						if t.Failed() {
							t.FailNow()
						}
					}
				}
			})
		}
	}
}

// worthDrawing picks the sizes at which something changes: all small ones,
// those around the breakpoints, and samples between, since there a screen
// differs from its neighbour by a column or a row of blanks.
func worthDrawing(w, h int, dense bool) bool {
	edge := func(n int, at ...int) bool {
		for _, a := range at {
			if n == a-1 || n == a {
				return true
			}
		}
		return false
	}
	ws := w == 120 || edge(w, 1, 3, 25, minWidth, 60, 80, 100)
	hs := h == 40 || edge(h, 1, 3, 5, minHeight, 16, 20, 24, 30)
	if dense {
		ws, hs = ws || w < 24 || w%6 == 0, hs || h < 13 || h%3 == 0
	}
	return ws && hs
}

// TestViewIsPure draws twice: nothing but a message may change a picture.
func TestViewIsPure(t *testing.T) {
	for name, way := range screens {
		st := newStage(hostileMachine(), opts(), 100, 30)
		way(st)
		if a, b := st.view(), st.view(); a != b {
			t.Errorf("%s: the second picture differs from the first", name)
		}
		st.close()
	}
}

// TestManyRows: what a frame costs depends on the rows on the screen.
func TestManyRows(t *testing.T) {
	frame := func(ports int) float64 {
		m := crowd(ports)
		return testing.AllocsPerRun(10, func() { m.View() })
	}
	if few, many := frame(200), frame(4000); many > few*1.2 {
		t.Errorf("a frame of 4000 ports makes %v allocations, one of 200 %v", many, few)
	}
}

// crowd is an overview of n listening ports.
func crowd(n int) *Model {
	s := machine()
	s.sockets = nil
	for i := range n {
		s.add(netstate.Listen, 4211, fmt.Sprintf("127.0.0.1:%d", 1024+i), "")
	}
	return newStage(s, opts(), 200, 60).m
}

func BenchmarkView(b *testing.B) {
	for _, n := range []int{50, 4000} {
		m := crowd(n)
		m.th = theme.ANSI()
		b.Run(fmt.Sprintf("ports=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.View()
			}
		})
	}
}
