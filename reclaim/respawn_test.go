package reclaim

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/netstate"
	"berth/netstate/netstatetest"
)

// TestWhoIsWatched: only where something starts a holder again as soon as it
// has ended, and as long as that takes.
func TestWhoIsWatched(t *testing.T) {
	supervised := func(s netstate.Supervisor) netstate.Holder {
		h := process(4211, "node")
		h.Supervisor = &s
		return h
	}
	under := func(parent netstate.Parent) netstate.Holder {
		h := process(4211, "node")
		h.Parents = []netstate.Parent{parent}
		return h
	}
	unit := process(4211, "node")
	unit.Unit = "web.service"
	for name, c := range map[string]struct {
		h      netstate.Holder
		says   string // empty: there is no watch
		atMost time.Duration
	}{
		"nobody":           {process(4211, "node"), "", 0},
		"a shell":          {under(netstate.Parent{PID: 500, Name: "-zsh"}), "", 0},
		"some parent":      {under(netstate.Parent{PID: 500, Name: "honcho"}), "honcho 500", DefaultWatch},
		"an ancestor":      {under(netstate.Parent{PID: 800, Name: "honcho"}), "", 0},
		"a unit":           {unit, "systemd (web.service)", DefaultWatch},
		"systemd, 100 ms":  {supervised(netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: "web.service", PID: 1, Restarts: netstate.Yes, Delay: 100 * time.Millisecond}), "systemd (web.service)", 1100 * time.Millisecond},
		"systemd, 5 s":     {supervised(netstate.Supervisor{Kind: netstate.SupervisorSystemdUser, Name: "gw.service", PID: 1200, Restarts: netstate.Yes, Delay: 5 * time.Second}), "the user's systemd (gw.service)", 6 * time.Second},
		"systemd, an hour": {supervised(netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: "gw.service", PID: 1, Restarts: netstate.Yes, Delay: time.Hour}), "systemd (gw.service)", watchAtMost},
		"systemd, never":   {supervised(netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: "gw.service", PID: 1, Restarts: netstate.No}), "", 0},
		"launchd":          {supervised(netstate.Supervisor{Kind: netstate.SupervisorLaunchd, Name: "com.example.gw", PID: 1}), "launchd (com.example.gw)", 11 * time.Second},
		"pm2":              {supervised(netstate.Supervisor{Kind: netstate.SupervisorPM2, PID: 24, Restarts: netstate.Yes}), "pm2 24", 1100 * time.Millisecond},
		"nodemon":          {supervised(netstate.Supervisor{Kind: "nodemon", PID: 5, Restarts: netstate.Yes, OnChange: true}), "", 0},
		"itself":           {supervised(netstate.Supervisor{Kind: "forever", PID: 4211, Restarts: netstate.Yes}), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPlan(refused(netstate.ReasonHeld, listening(c.h)), DefaultPolicy(), me())
			last := p.Steps[len(p.Steps)-1]
			if (last.Kind == StepWatch) != (c.says != "") {
				t.Fatalf("the last step is %+v", last)
			}
			if want := "watch whether " + c.says + " starts node 4211 again"; c.says != "" && (last.Text != want || last.AtMost != c.atMost) {
				t.Errorf("%q for %v, want %q for %v", last.Text, last.AtMost, want, c.atMost)
			}
		})
	}
	p := NewPlan(refused(netstate.ReasonHeld, listening(process(24, "pm2"), supervised(netstate.Supervisor{Kind: netstate.SupervisorPM2, PID: 24, Restarts: netstate.Yes}))), DefaultPolicy(), me())
	if slices.Contains(kinds(p), StepWatch) {
		t.Error("who is stopped too is said to start it again")
	}
}

// TestSlowRespawn: a supervisor that waits for seconds is seen, told once with
// its interval, and what it started is left alone. One whose holder goes on
// with its work begins to wait only when that has ended.
func TestSlowRespawn(t *testing.T) {
	const delay = 5 * time.Second
	for name, c := range map[string]struct {
		does   netstatetest.Behaviour
		events []EventKind
	}{
		"ends":   {netstatetest.Behaviour{}, []EventKind{EventSignal, EventExit, EventProbe, EventBindable, EventWatch, EventRespawn}},
		"drains": {netstatetest.Behaviour{Close: 10 * time.Millisecond, Term: 500 * time.Millisecond}, []EventKind{EventSignal, EventDraining, EventProbe, EventBindable, EventWatch, EventExit, EventRespawn}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := scripted{netstatetest.New()}
				h := netstate.Holder{Name: "node", Cmdline: []string{"node", "server.js"}, UID: 1000,
					Supervisor: &netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: "web.service", PID: 1, Restarts: netstate.Yes, Delay: delay, Stop: "systemctl stop web.service"}}
				var next *netstatetest.Process
				does := c.does
				does.OnExit = func() {
					time.AfterFunc(delay, func() {
						next = k.Start(h, netstatetest.Behaviour{})
						if err := k.Listen(next, gateway); err != nil {
							t.Error(err)
						}
					})
				}
				if err := k.Listen(k.Start(h, does), gateway); err != nil {
					t.Fatal(err)
				}
				var events []Event
				err := Run(t.Context(), k, planFor(t, k, DefaultPolicy()), func(e Event) { events = append(events, e) })
				var back *RespawnError
				if !errors.As(err, &back) {
					t.Fatalf("error %v after %v", err, kindsOf(events))
				}
				// The end is seen at a look, which is late by at most its interval.
				if back.After < delay-watchEvery || back.After > delay || back.By != "systemd (web.service)" || !strings.Contains(back.Hint(), "systemctl stop web.service") {
					t.Errorf("after %v by %s: %s", back.After, back.By, back.Hint())
				}
				if got := kindsOf(events); !slices.Equal(got, c.events) {
					t.Errorf("events %v, want %v", got, c.events)
				}
				select {
				case <-next.Done():
					t.Error("the new one was stopped")
				default:
				}
			})
		})
	}
}

// TestStandsIn: whoever only holds a port for others is never a target.
func TestStandsIn(t *testing.T) {
	for name, c := range map[string]struct {
		s    netstate.Supervisor
		says string // empty: it may be stopped
	}{
		"a user's manager": {netstate.Supervisor{Kind: netstate.SupervisorSystemdUser, PID: 4211, HoldsPort: true, Name: "gw.socket", Stop: "systemctl --user stop gw.socket"}, "node 4211 only holds the port for gw.socket: to free it, systemctl --user stop gw.socket"},
		"docker-proxy":     {netstate.Supervisor{Kind: netstate.SupervisorDocker, Name: "172.17.0.2:80", HoldsPort: true, Find: "docker ps"}, "node 4211 only holds the port for 172.17.0.2:80: see docker ps"},
		"pm2's daemon":     {netstate.Supervisor{Kind: netstate.SupervisorPM2, PID: 4211, HoldsPort: true}, "node 4211 only holds the port for another program"},
		"an activated one": {netstate.Supervisor{Kind: netstate.SupervisorSystemd, PID: 1, HoldsPort: true}, ""},
	} {
		h := process(4211, "node")
		h.Supervisor = &c.s
		p := NewPlan(refused(netstate.ReasonHeld, listening(h)), DefaultPolicy(), me())
		if c.says == "" {
			if !p.Feasible {
				t.Errorf("%s: refused", name)
			}
			continue
		}
		if p.Feasible || len(p.Targets()) > 0 || p.Refused[0].Text() != c.says {
			t.Errorf("%s: feasible %v, refused %+v", name, p.Feasible, p.Refused)
		}
	}
}

// TestBlunt: where no signal is polite none is promised, and what must not kill
// does nothing.
func TestBlunt(t *testing.T) {
	self := me()
	self.Blunt = true
	v := refused(netstate.ReasonHeld, listening(process(4211, "node")))
	p := NewPlan(v, DefaultPolicy(), self)
	if got, want := kinds(p), []StepKind{StepKill, StepWait}; !slices.Equal(got, want) || p.Steps[0].Text != "end node 4211 at once" {
		t.Errorf("steps %+v", p.Steps)
	}
	if !slices.ContainsFunc(p.Risks, func(s string) bool { return strings.Contains(s, "no polite signal and no grace") }) {
		t.Errorf("risks %q", p.Risks)
	}
	policy := DefaultPolicy()
	policy.NoKill = true
	if p = NewPlan(v, policy, self); p.Feasible || len(p.Targets()) > 0 || !strings.Contains(p.Refused[0].Text(), "--no-kill") {
		t.Errorf("feasible %v, refused %+v", p.Feasible, p.Refused)
	}
}

// TestTooSoon: a gateway that needs minutes to shut down is said to.
func TestTooSoon(t *testing.T) {
	title := []string{"openclaw-gateway"}
	for name, c := range map[string]struct {
		cmdline []string
		change  func(*Policy)
		warns   bool
	}{
		"openclaw":            {[]string{"node", "/usr/lib/node_modules/openclaw/openclaw.mjs", "gateway", "run"}, nil, true},
		"openclaw by name":    {[]string{"/usr/bin/openclaw", "gateway", "run", "--port", "18789"}, nil, true},
		"its title":           {title, nil, true},
		"another of its":      {[]string{"openclaw", "status"}, nil, false},
		"something else":      {[]string{"node", "server.js"}, nil, false},
		"with enough grace":   {title, func(p *Policy) { p.Grace = openclawShutdown }, false},
		"never to be killed":  {title, func(p *Policy) { p.NoKill = true }, false},
		"to be killed anyway": {title, func(p *Policy) { p.Fast = true }, false},
	} {
		h := process(4211, "node")
		h.Cmdline = c.cmdline
		policy := DefaultPolicy()
		if c.change != nil {
			c.change(&policy)
		}
		p := NewPlan(refused(netstate.ReasonHeld, listening(h)), policy, me())
		if got := slices.ContainsFunc(p.Risks, func(s string) bool { return strings.Contains(s, "5m15s to finish its work") }); got != c.warns {
			t.Errorf("%s: warns %v: %q", name, got, p.Risks)
		}
	}
}
