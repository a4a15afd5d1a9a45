package netstate_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
	"berth/netstate/sockdiag"
)

// question is a command of berth, read back.
type question struct {
	verb    string
	spec    netstate.BindSpec
	timeout time.Duration
	destroy bool
}

// questions reads a cure's command as the command line would.
func questions(t *testing.T, command string) []question {
	t.Helper()
	var qs []question
	for part := range strings.SplitSeq(command, ";") {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(part), "sudo "))
		if len(words) < 3 || words[0] != "berth" {
			t.Fatalf("%q is no command of berth", part)
		}
		port, err := netstate.ParsePort(words[2])
		if err != nil {
			t.Fatal(err)
		}
		q := question{verb: words[1]}
		fs := flag.NewFlagSet(words[1], flag.ContinueOnError)
		host := fs.String("host", "", "")
		reuseAddr, reusePort := fs.Bool("reuseaddr", true, ""), fs.Bool("reuseport", false, "")
		v6only := fs.Bool("v6only", false, "")
		uid := fs.Uint("uid", uint(os.Geteuid()), "")
		switch q.verb {
		case "free":
			fs.BoolVar(&q.destroy, "destroy", false, "")
		case "wait":
			fs.DurationVar(&q.timeout, "timeout", 0, "")
		}
		if err := fs.Parse(words[3:]); err != nil || fs.NArg() > 0 {
			t.Fatalf("%q: %v, left %q", part, err, fs.Args())
		}
		addr, err := netstate.ResolveHost(t.Context(), *host)
		if err != nil {
			t.Fatal(err)
		}
		q.spec = netstate.NewBindSpec(addr, port)
		q.spec.ReuseAddr, q.spec.ReusePort, q.spec.UID = *reuseAddr, *reusePort, uint32(*uid)
		fs.Visit(func(f *flag.Flag) {
			if f.Name == "v6only" {
				q.spec.V6Only = *v6only
			}
		})
		qs = append(qs, q)
	}
	return qs
}

// cureTest is one kind of scene with what is needed to build it again.
type cureTest struct {
	sys     *netstate.System
	build   func(*stage)
	root    bool
	soon    bool            // tcp_fin_timeout is a second
	waited  map[string]bool // a real wait was made for a kind of cure, which is enough once
	applied map[netstate.CureAction]int
}

func (c *cureTest) stage(t *testing.T) *stage {
	t.Helper()
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, port: port}
	c.build(s)
	return s
}

// TestCuresWork applies every cure of every verdict to the real scene and
// makes the bind, and reads the printed commands back.
func TestCuresWork(t *testing.T) {
	lab.NeedNamespace(t)
	c := cureTest{root: os.Geteuid() == 0, waited: map[string]bool{}, applied: map[netstate.CureAction]int{}}
	c.soon = setSysctl(t, "ipv4.tcp_fin_timeout", "1")
	c.sys = openSystem(t)
	for _, sc := range cureScenes {
		t.Run(sc.name, func(t *testing.T) {
			c.build = sc.build
			s := c.stage(t)
			defer func() { s.close() }()
			for i := range cureBinds(s.port) {
				v := c.why(t, cureBinds(s.port)[i])
				if got := actions(&v); i == 0 && c.root && got != sc.want {
					t.Errorf("cures %q, want %q\n%s", got, sc.want, v.Summary)
				}
				for n := 0; n < len(v.Cures); n++ {
					if c.apply(t, s, &v, v.Cures[n]) {
						s.close()
						s = c.stage(t)
						v = c.why(t, cureBinds(s.port)[i])
					}
				}
			}
		})
	}
	t.Logf("applied %v, waited for %v", c.applied, c.waited)
	for _, a := range []netstate.CureAction{netstate.CureStop, netstate.CureWait, netstate.CureHost, netstate.CureReuseAddr} {
		if c.applied[a] == 0 && (c.soon || a != netstate.CureWait) {
			t.Errorf("no scene led to the cure %s", a)
		}
	}
	if !c.root {
		t.Skip("needs root for the cures destroy and wait; the others were applied")
	}
	if c.applied[netstate.CureDestroy] == 0 {
		t.Error("no scene led to the cure destroy")
	}
}

func (c *cureTest) why(t *testing.T, spec netstate.BindSpec) netstate.Verdict {
	t.Helper()
	v, err := c.sys.Why(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func actions(v *netstate.Verdict) string {
	var names []string
	for _, c := range v.Cures {
		names = append(names, string(c.Action))
	}
	return strings.Join(names, " ")
}

// apply does what the cure says and makes the bind. It reports whether the
// scene is another one afterwards.
func (c *cureTest) apply(t *testing.T, s *stage, v *netstate.Verdict, cure netstate.Cure) (changed bool) {
	t.Helper()
	qs := questions(t, cure.Command)
	wanted := v.Spec
	switch cure.Action {
	case netstate.CureReuseAddr:
		wanted.ReuseAddr = true
	case netstate.CureHost:
		wanted.Addr, wanted.Family, wanted.V6Only = qs[0].spec.Addr, qs[0].spec.Family, qs[0].spec.V6Only
		if wanted == v.Spec {
			t.Errorf("%s: the cure %q is the same bind", v.Spec, cure.Command)
		}
	}
	for _, q := range qs {
		if q.verb == "free" {
			q.spec.UID = wanted.UID // it has no such flag: who runs it has to signal
		}
		if q.spec != wanted {
			t.Errorf("%q asks about %s instead of %s", cure.Command, inFull(q.spec), inFull(wanted))
		}
	}
	conditional := strings.Contains(cure.Text, ", if ")
	if conditional && c.root {
		t.Errorf("root can know, and %q depends on something\n%s", cure.Text, v.Summary)
	}
	kind := string(cure.Action)
	if slices.ContainsFunc(v.Blockers, func(b netstate.Blocker) bool { return b.Socket.Lingering() }) {
		kind += " and lingering"
	}
	var patience time.Duration
	switch cure.Action {
	case netstate.CureReuseAddr, netstate.CureHost:
	case netstate.CureStop:
		s.stop(t, v)
		changed = true
		if len(qs) == 2 { // and wait for what is left
			if least := time.Minute + time.Second; qs[1].timeout < least {
				t.Errorf("%q waits less than %v", cure.Command, least)
			}
			if !c.soon || c.waited[kind] {
				return true
			}
			c.waited[kind], patience = true, 10*time.Second
		}
	case netstate.CureDestroy:
		if !c.root {
			return false
		}
		if !qs[0].destroy {
			t.Errorf("%q does not destroy", cure.Command)
		}
		s.stop(t, v)
		c.destroy(t, v.Spec)
		changed = true
	case netstate.CureWait:
		if end := v.At.Add(qs[0].timeout); !end.After(v.Clears.Until) {
			t.Errorf("%q gives up %v before the latest end", cure.Command, v.Clears.Until.Sub(end))
		}
		if c.waited[kind] || time.Until(v.Clears.From) > 2*time.Second {
			return false
		}
		c.waited[kind], changed, patience = true, true, time.Until(v.Clears.From)+5*time.Second
	default:
		t.Fatalf("the cure %+v has no place in this scene", cure)
	}
	if patience == 0 && !conditional {
		patience = time.Second // a busy machine answers late
	}
	err := bindWithin(t, wanted, patience)
	if err == nil {
		c.applied[cure.Action]++
	} else if !conditional {
		t.Errorf("%s: the cure does not work: %s (%s): %v\n%s", inFull(v.Spec), cure.Text, cure.Command, err, v.Summary)
	}
	return changed
}

func inFull(b netstate.BindSpec) string {
	return fmt.Sprintf("%s (reuseaddr %v, reuseport %v, v6only %v, uid %d)", b, b.ReuseAddr, b.ReusePort, b.V6Only, b.UID)
}

// stop ends the processes that the verdict names and no other.
func (s *stage) stop(t *testing.T, v *netstate.Verdict) {
	t.Helper()
	for _, h := range v.Holders() {
		i := slices.IndexFunc(s.holders, func(c *lab.Child) bool { return c.PID == h.ID.PID })
		if i < 0 {
			t.Fatalf("the verdict names pid %d, which is no holder of this scene", h.ID.PID)
		}
		if p, err := os.FindProcess(h.ID.PID); err != nil {
			t.Fatal(err)
		} else if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if err := s.holders[i].Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// destroy destroys what is left on the port and refuses the bind, as long as
// there is any: a connection whose process has just ended goes on through its
// states by itself, and each time it becomes a minisocket, that one has a
// cookie of its own.
func (c *cureTest) destroy(t *testing.T, spec netstate.BindSpec) {
	t.Helper()
	conn, err := sockdiag.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 100 {
		v := c.why(t, spec)
		left := v.Reason == netstate.ReasonUnknown
		for i := range v.Blockers {
			s := &v.Blockers[i].Socket
			if !s.Lingering() {
				continue
			}
			left = true
			r := s.Record()
			if err := conn.Destroy(&r); err != nil && !errors.Is(err, unix.ENOENT) {
				t.Fatal(err)
			}
		}
		if !left {
			return
		}
	}
	t.Fatal("there was always something left to destroy")
}

// bindWithin makes the bind until it succeeds. The end of a timer in the
// kernel is no event that could be waited for.
func bindWithin(t *testing.T, spec netstate.BindSpec, patience time.Duration) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		p := netstate.TryBind(spec)
		if p.Bindable() || p.Class() != netstate.ClassInUse || time.Now().After(end) {
			return p.Err
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			return t.Context().Err()
		}
	}
}

// setSysctl sets an option of this namespace for the time of the test, and
// reports whether it could.
func setSysctl(t *testing.T, name, value string) bool {
	t.Helper()
	path := "/proc/sys/net/" + strings.ReplaceAll(name, ".", "/")
	old, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return false
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, old, 0); err != nil {
			t.Errorf("put %s back: %v", name, err)
		}
	})
	return true
}

// assignment reads "sysctl -w net.NAME=VALUE".
func assignment(t *testing.T, command string) (name, value string) {
	t.Helper()
	rest, ok := strings.CutPrefix(command, "sysctl -w net.")
	if name, value, ok2 := strings.Cut(rest, "="); ok && ok2 {
		return name, value
	}
	t.Fatalf("%q sets nothing", command)
	return "", ""
}

func find(v *netstate.Verdict, a netstate.CureAction) []netstate.Cure {
	var cs []netstate.Cure
	for _, c := range v.Cures {
		if c.Action == a {
			cs = append(cs, c)
		}
	}
	return cs
}

func openSystem(t *testing.T) *netstate.System {
	t.Helper()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.Close() })
	return sys
}
