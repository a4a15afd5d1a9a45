package ui

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/netstate"
	"berth/netstate/netns"
)

func TestKeyTable(t *testing.T) {
	for _, page := range []pages{onPorts, onPort, onRun, onGateway} {
		seen := map[string]bool{}
		for i := range table {
			b := &table[i]
			if b.on&page == 0 {
				continue
			}
			for _, k := range b.keys {
				if seen[k] {
					t.Errorf("page %b: two bindings of %q", page, k)
				}
				seen[k] = true
			}
		}
		for _, k := range []string{"?", "q", "ctrl+c"} {
			if !seen[k] {
				t.Errorf("page %b: no binding of %q", page, k)
			}
		}
	}
	for i := range table {
		b := &table[i]
		if b.act.destroys() != b.asks() || b.asks() && b.foot != "" && !strings.HasSuffix(b.foot, "…") {
			t.Errorf("%s (%q, %q): an ellipsis has to say that it asks, and only then", b.show, b.help, b.foot)
		}
		if b.help == "" || b.show == "" || len(b.keys) == 0 || b.on == 0 {
			t.Errorf("binding %d is incomplete: %+v", i, *b)
		}
		for _, k := range b.keys {
			if got := keyMsg(k).String(); got != k {
				t.Errorf("bubbletea knows no key %q: it spells it %q", k, got)
			}
			if strings.HasPrefix(k, "f") && len(k) > 1 || strings.HasPrefix(k, "alt+") {
				t.Errorf("%q needs a function key or Alt, which many terminals do not pass on", k)
			}
		}
	}
}

// guarded gives the model a key and fails if it destroys anything without
// having asked: a plan may only be carried out, and the gateway only be asked
// to end, by y or by enter on the other button, in a dialog that is armed,
// whose plan is feasible and whose name, if it wants one, has been typed.
func guarded(t *testing.T, st *stage, key tea.KeyMsg) {
	t.Helper()
	var before dialog
	open := st.m.dialog != nil
	if open {
		before = *st.m.dialog
	}
	effects := st.m.handle(key)
	for _, e := range effects {
		allowed := open && before.armed && before.allowed() &&
			(key.String() == "y" && !before.wantsName() || key.String() == "enter" && before.yes)
		switch e := e.(type) {
		case effectReclaim:
			if !allowed || before.kind == dialogStop || before.kind == dialogQuit || before.kind == dialogLeave {
				t.Fatalf("%q began a plan without its dialog: %+v", key, before)
			}
			if before.plan.Typed != "" && before.typed != before.plan.Typed {
				t.Fatalf("%q began a plan with %q typed, want %q", key, before.typed, before.plan.Typed)
			}
			if e.asked != before.id || !before.plan.Feasible {
				t.Fatalf("%q began a plan that is not feasible", key)
			}
		case effectHandOver:
			if !allowed || before.kind != dialogHandOver || e.asked != before.id || !before.plan.Feasible {
				t.Fatalf("%q began a hand-over without its dialog: %+v", key, before)
			}
		case effectStop:
			leave := open && before.armed && before.kind == dialogLeave && key.String() == "x"
			if !leave && (!allowed || before.kind != dialogStop) {
				t.Fatalf("%q stopped the gateway without its dialog: %+v", key, before)
			}
		}
	}
	st.do(effects)
}

// play presses a key for each byte, with some time between them.
func play(t *testing.T, script []byte) {
	keys := []string{
		"r", "R", "H", "o", "x", "d", "L", "y", "n", "enter", "esc", "tab", "left", "1", "2", "/", "s", "A", "n", "p", "f", "?", "q",
		"up", "j", "G", "g", "ctrl+d", "h", "l", "backspace", " ", "postgres", "node", "ctrl+u",
	}
	gaps := []time.Duration{0, 0, 20 * time.Millisecond, grace, 2 * time.Second}
	s := postgresAsRoot()
	s.spaces = []netns.Namespace{docker}
	s.add(netstate.Listen, 4211, "127.0.0.1:18789", "").netns = docker.ID
	st := newStage(s, opts(), 80, 24)
	defer st.close()
	for i, b := range script {
		guarded(t, st, keyMsg(keys[int(b)%len(keys)]))
		if st.ended {
			return
		}
		st.advance(gaps[(int(b)/len(keys)+i)%len(gaps)])
		most := 0 // what is held is what is asked about, or what is being done
		if d := st.m.dialog; d != nil && d.kind != dialogStop && d.kind != dialogQuit {
			most++
		}
		if st.m.job.freeing() || st.m.job.handing() {
			most++
		}
		if st.script.holds > most {
			t.Fatalf("%d plans are held, and at most %d can be meant", st.script.holds, most)
		}
		if i%16 == 0 {
			check(t, st, 80, 24)
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("\x01\x65\x25"))
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 200 {
			return
		}
		play(t, script)
	})
}

// TestRandomKeys is a fixed sample of what FuzzKeys looks for.
func TestRandomKeys(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		script := make([]byte, 60)
		for i := range script {
			script[i] = byte(random.IntN(256))
		}
		play(t, script)
	}
}
