package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/reclaim"
	"berth/ui/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	time.Local = time.UTC // the goldens hold times of day
	os.Exit(m.Run())
}

var at = time.Date(2026, 11, 23, 14, 2, 13, 204_000_000, time.UTC)

func node() netstate.Holder {
	return netstate.Holder{
		ID: netstate.ProcessID{PID: 4211, Start: 77}, Started: at.Add(-2*time.Hour - 14*time.Minute),
		Name: "node", Cmdline: []string{"node", "server.js", "--title", "two words"},
		User: "alice", UID: 1000, Cwd: "/home/alice/app", FD: 19,
		Parents: []netstate.Parent{{PID: 4102, Name: "bash"}, {PID: 900, Name: "sshd"}},
		Unit:    "node.service",
		Supervisor: &netstate.Supervisor{
			Kind: netstate.SupervisorSystemd, Name: "node.service", PID: 1, Restarts: netstate.Yes,
			Stop: "systemctl stop node.service", Restart: "systemctl restart node.service",
		},
	}
}

// unknown is a holder of which nothing but the number could be read.
func unknown() netstate.Holder {
	return netstate.Holder{ID: netstate.ProcessID{PID: 77, Start: 1}, UID: -1, FD: -1}
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// scene is a port that node listens on, with three connections in different
// states, and another port of which little is known.
func scene() (*netstate.Snapshot, *netstate.Owners) {
	sockets := []netstate.Socket{
		{Local: addr("127.0.0.1:18789"), Family: netstate.INET, State: netstate.Listen, ReuseAddr: netstate.Yes, ReusePort: netstate.No,
			FlagsFrom: netstate.FlagsGetsockopt, UID: 1000, UIDKnown: true, Inode: 11, SendQ: 511},
		{Local: addr("127.0.0.1:18789"), Remote: addr("127.0.0.1:58930"), Family: netstate.INET, State: netstate.Established, UID: 1000, UIDKnown: true, Inode: 12},
		{Local: addr("127.0.0.1:18789"), Remote: addr("127.0.0.1:58934"), Family: netstate.INET, State: netstate.TimeWait,
			Timer: netstate.TimerTimeWait, Expires: 57210 * time.Millisecond, Cookie: 5},
		{Local: addr("[::]:9000"), Family: netstate.INET6, State: netstate.Bound, Inode: 13},
	}
	owners := netstate.NewOwners()
	owners.Add(11, node())
	owners.Add(12, node())
	owners.Add(13, unknown())
	caps := netstate.Caps{Source: "sock_diag", Timers: true, Bound: true, Inodes: true, Notes: []string{"holders of 2 sockets are hidden: run as root to see them"}}
	return netstate.NewSnapshot(at, sockets, caps), owners
}

func spec(host string, port uint16) netstate.BindSpec {
	s := netstate.NewBindSpec(netip.MustParseAddr(host), port)
	s.UID = 1000
	return s
}

// held is the verdict over scene's port as netstate would give it by the
// rules; the sentences are its, and only have to come through.
func held() netstate.Verdict {
	snap, owners := scene()
	s := snap.Port(18789)[0]
	b := spec("127.0.0.1", 18789)
	other := spec("::1", 18789)
	return netstate.Verdict{
		At: at, Spec: b, Errno: "EADDRINUSE", Evidence: netstate.EvidenceRules, Reason: netstate.ReasonHeld,
		Summary:  "127.0.0.1:18789 cannot be bound: node (pid 4211, alice) listens on 127.0.0.1:18789.",
		Blockers: []netstate.Blocker{{Socket: s, Holders: owners.Of(&s), Certain: true, Outbound: netstate.No}},
		Cures: []netstate.Cure{
			{Action: netstate.CureStop, Text: "stop node (pid 4211, alice)", Command: "berth free 18789"},
			{Action: netstate.CurePrivilege, Text: "or ask its owner"},
		},
		Matrix: []netstate.Cell{{Spec: b, Bindable: netstate.No}, {Spec: other, Bindable: netstate.Yes}, {Spec: other}},
		Counts: map[netstate.State]int{netstate.Listen: 1, netstate.Established: 1, netstate.TimeWait: 1},
	}
}

// lingering is the verdict of a bind over the TIME-WAIT sockets of a server
// that did not set SO_REUSEADDR, one of which may not block.
func lingering() netstate.Verdict {
	s := netstate.Socket{
		Local: addr("127.0.0.1:18789"), Remote: addr("127.0.0.1:58934"), Family: netstate.INET, State: netstate.TimeWait,
		ReuseAddr: netstate.No, ReusePort: netstate.No, FlagsFrom: netstate.FlagsBPF,
		Timer: netstate.TimerTimeWait, Expires: 57210 * time.Millisecond, Cookie: 5,
	}
	clears := (*netstate.Wheel)(nil).Clears(&s, at)
	exact := netstate.Clears{From: clears.From, Until: clears.From}
	return netstate.Verdict{
		At: at, Spec: spec("127.0.0.1", 18789), Errno: "EADDRINUSE", Evidence: netstate.EvidenceBind, Reason: netstate.ReasonLingering,
		Summary:  "127.0.0.1:18789 cannot be bound: a TIME-WAIT socket blocks it for 57.2 s more.",
		Blockers: []netstate.Blocker{{Socket: s, Certain: true, Clears: clears}, {Socket: s, Clears: exact}},
		Clears:   clears,
		Cures:    []netstate.Cure{{Action: netstate.CureWait, Text: "wait 57.2 s", Command: "berth wait 18789 --timeout 60s"}},
		Counts:   map[netstate.State]int{netstate.TimeWait: 2},
		Note:     "the rules say otherwise → the bind counts",
	}
}

// unsure is a verdict by the rules alone where these cannot tell.
func unsure() netstate.Verdict {
	snap, owners := scene()
	s := snap.Port(9000)[0]
	return netstate.Verdict{
		At: at, Spec: spec("127.0.0.1", 9000), Bindable: true, Unsure: true, Evidence: netstate.EvidenceRules, Reason: netstate.ReasonFree,
		Summary:  "127.0.0.1:9000 can be bound unless the server of the one socket left set no SO_REUSEADDR; only a real bind tells.",
		Blockers: []netstate.Blocker{{Socket: s, Holders: owners.Of(&s)}},
		Counts:   map[netstate.State]int{netstate.Bound: 1},
	}
}

func listing() *report.Listing {
	snap, owners := scene()
	return &report.Listing{At: at, Caps: snap.Caps, Owners: owners, Ports: []report.Port{
		{Number: 9000, Snapshot: snap, Sockets: snap.Port(9000), Verdict: unsure()},
		{Number: 18789, Snapshot: snap, Sockets: snap.Port(18789), Verdict: held()},
	}}
}

func plan() reclaim.Plan {
	v, h := held(), node()
	return reclaim.Plan{
		Spec: v.Spec, Verdict: v, Policy: reclaim.DefaultPolicy(), Feasible: true,
		Steps: []reclaim.Step{
			{Kind: reclaim.StepTerm, Holder: h, Signal: syscall.SIGTERM, AtMost: 3 * time.Second, Text: "SIGTERM to node 4211"},
			{Kind: reclaim.StepKill, Holder: h, Signal: syscall.SIGKILL, AtMost: 2 * time.Second, Text: "if it is still alive: SIGKILL to node 4211"},
			{Kind: reclaim.StepShutdown, Sockets: []netstate.Socket{v.Blockers[0].Socket}, AtMost: time.Second, Text: "with it: shut its listener down"},
			{Kind: reclaim.StepDestroy, Sockets: []netstate.Socket{lingering().Blockers[0].Socket}, AtMost: time.Second, Text: "destroy 1 socket", Needs: "root"},
			{Kind: reclaim.StepWait, AtMost: 3 * time.Second, Text: "probe 127.0.0.1:18789 until it can be bound"},
		},
		Risks: []string{"1 connection on this port will be cut off"},
		Typed: "node", TypedWhy: "node serves 12 clients",
	}
}

func refusedPlan() reclaim.Plan {
	p := plan()
	p.Steps = p.Steps[4:]
	p.Feasible, p.Typed, p.TypedWhy = false, "", ""
	p.Refused = []reclaim.Refusal{{Holder: node(), Why: "is this berth"}, {Why: "a process that this user may not see holds it"}}
	return p
}

func TestGolden(t *testing.T) {
	heldV, lingeringV, unsureV, p, refused := held(), lingering(), unsure(), plan(), refusedPlan()
	tests := []struct {
		name string
		json any
		text func(*report.Text) error
	}{
		{"held", report.NewVerdict(&heldV), func(t *report.Text) error { return t.Verdict(&heldV) }},
		{"lingering", report.NewVerdict(&lingeringV), func(t *report.Text) error { return t.Verdict(&lingeringV) }},
		{"unsure", report.NewVerdict(&unsureV), func(t *report.Text) error { return t.Verdict(&unsureV) }},
		{"list", report.NewList(listing()), func(t *report.Text) error { return t.List(listing()) }},
		{"list-plain", nil, func(t *report.Text) error { return t.ListPlain(listing()) }},
		{"plan", report.NewPlan(&p), func(t *report.Text) error { return t.Plan(&p) }},
		{"plan-refused", report.NewPlan(&refused), func(t *report.Text) error { return t.Plan(&refused) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			write := func(opts report.Text) string {
				var buf bytes.Buffer
				opts.W, opts.UID = &buf, 1000
				if err := tt.text(&opts); err != nil {
					t.Fatal(err)
				}
				return buf.String()
			}
			plain := write(report.Text{})
			golden(t, tt.name+".txt", []byte(plain))
			if colored := write(report.Text{Color: true}); ansi.Strip(colored) != plain {
				t.Errorf("colour changes the text:\n%s", colored)
			}
			for _, r := range write(report.Text{ASCII: true}) {
				if r > unicode.MaxASCII {
					t.Errorf("the ASCII form contains %q", r)
				}
			}
			if tt.json != nil {
				golden(t, tt.name+".json", indented(t, tt.json))
			}
		})
	}
}

// indented is the JSON of v, easier to read in a golden file.
func indented(t *testing.T, v any) []byte {
	t.Helper()
	var line, out bytes.Buffer
	if err := report.Encode(&line, v); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(line.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("JSON takes %d lines, want 1", n)
	}
	if err := json.Indent(&out, line.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		var gl, wl string
		if i < len(g) {
			gl = g[i]
		}
		if i < len(w) {
			wl = w[i]
		}
		if gl != wl {
			t.Errorf("%s:%d\n got %q\nwant %q", path, i+1, gl, wl)
		}
	}
}

func TestName(t *testing.T) {
	inside := node()
	inside.Container = "docker 3f2a61c09b1e"
	nameless := unknown()
	nameless.Container = inside.Container
	for _, c := range []struct {
		h    netstate.Holder
		uid  int
		want string
	}{
		{node(), 0, "node 4211 (alice)"}, {node(), 1000, "node 4211 (you)"}, {unknown(), 0, "pid 77"},
		{inside, 0, "node 4211 (alice, docker 3f2a61c09b1e)"}, {nameless, 0, "pid 77 (docker 3f2a61c09b1e)"},
	} {
		out := report.Text{UID: c.uid}
		if got := out.Name(c.h); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Everything that another process chose must reach a terminal tamed in both
// forms, and a script exactly as it was.
func TestHostileText(t *testing.T) {
	const evil = "a\x1b]0;owned\x07b\r\nc\u202ed\u200be\u009bf\x7f"
	h := node()
	h.Name, h.Cmdline, h.User, h.Cwd, h.Unit, h.Container = evil, []string{evil, evil}, evil, evil, evil, evil
	h.Parents = []netstate.Parent{{PID: 2, Name: evil}}
	h.Supervisor = &netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: evil, Stop: evil, Restart: evil, Find: evil}
	v := held()
	v.Summary, v.Note = evil, evil
	v.Blockers[0].Holders = []netstate.Holder{h}
	v.Cures[0].Text, v.Cures[0].Command = evil, evil
	p := plan()
	p.Verdict, p.Steps[0].Holder, p.Steps[0].Text, p.Risks[0] = v, h, evil, evil
	p.Refused = []reclaim.Refusal{{Holder: h, Why: evil}, {Why: evil}}
	l := listing()
	l.Owners, l.Caps.Notes[0] = netstate.NewOwners(), evil
	l.Owners.Add(11, h)
	event := reclaim.Event{At: at, Kind: reclaim.EventSignal, Holder: h, Signal: "SIGTERM"}
	inUse := gatewaylaunch.Event{At: at, Kind: gatewaylaunch.EventInUse, Verdict: &v}
	output := gatewaylaunch.Event{At: at, Kind: gatewaylaunch.EventOutput, Line: evil}

	var text bytes.Buffer
	out := report.Text{W: &text, UID: -1}
	for _, err := range []error{
		out.Verdict(&v), out.Plan(&p), out.List(l), out.ListPlain(l), out.Event(&event), out.Launch(&inUse), out.Launch(&output),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	onlyPrintable(t, text.String())
	if !strings.Contains(text.String(), "owned") {
		t.Error("the name is not shown at all")
	}

	for _, j := range []any{
		report.NewVerdict(&v), report.NewPlan(&p), report.NewList(l), report.NewEvent(&event), report.NewLaunch(&inUse), report.NewLaunch(&output),
	} {
		var line bytes.Buffer
		if err := report.Encode(&line, j); err != nil {
			t.Fatal(err)
		}
		onlyPrintable(t, line.String())
		if !carries(decode(t, line.Bytes()), evil) {
			t.Errorf("%T does not carry the exact text", j)
		}
	}
}

func onlyPrintable(t *testing.T, s string) {
	t.Helper()
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U is written raw", r)
		}
	}
}

func decode(t *testing.T, line []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(line, &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, line)
	}
	return v
}

// carries reports whether one of the strings in v is s.
func carries(v any, s string) bool {
	switch v := v.(type) {
	case string:
		return v == s
	case []any:
		for _, e := range v {
			if carries(e, s) {
				return true
			}
		}
	case map[string]any:
		for _, e := range v {
			if carries(e, s) {
				return true
			}
		}
	}
	return false
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[31m", "\u202e", "\U000e0001", "\xff", "日本", "<&>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var line bytes.Buffer
		if err := report.Encode(&line, map[string]string{"s": s}); err != nil {
			t.Fatal(err)
		}
		onlyPrintable(t, line.String())
		var got map[string]string
		if err := json.Unmarshal(line.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); got["s"] != want && len([]rune(got["s"])) != len([]rune(s)) {
			t.Errorf("%q became %q", s, got["s"])
		}
	})
}

func TestReclaimEvents(t *testing.T) {
	v := lingering()
	refused := netstate.Probe{Spec: v.Spec, At: at, Err: errors.New("address already in use")}
	tests := []struct {
		event reclaim.Event
		text  string
		json  string
	}{
		{reclaim.Event{Kind: reclaim.EventSignal, Holder: unknown(), Signal: "SIGTERM"},
			"SIGTERM sent to pid 77. 14:02:13.204\n", `"event":"signal","at":"2026-11-23T14:02:13.204Z","step":0,"holder":{"pid":77,"started":null,`},
		{reclaim.Event{Kind: reclaim.EventExit, Step: 1, Holder: unknown(), Took: 420 * time.Millisecond},
			"exited: pid 77, after 420 ms. 14:02:13.204\n", `"took_ms":420`},
		{reclaim.Event{Kind: reclaim.EventExit, Holder: unknown()},
			"already gone: pid 77. 14:02:13.204\n", `"event":"exit"`},
		{reclaim.Event{Kind: reclaim.EventStale, Holder: unknown()},
			"77 is another program now; nothing was signalled. 14:02:13.204\n", `"event":"stale"`},
		{reclaim.Event{Kind: reclaim.EventSurvived, Holder: unknown()},
			"still alive: pid 77. 14:02:13.204\n", `"event":"survived"`},
		{reclaim.Event{Kind: reclaim.EventDestroyed, Count: 1},
			"destroyed 1 socket. 14:02:13.204\n", `"count":1`},
		{reclaim.Event{Kind: reclaim.EventShutdown, Count: 2},
			"shut down: 2 listeners. 14:02:13.204\n", `"count":2`},
		{reclaim.Event{Kind: reclaim.EventShutdown, Err: errors.New("no right")},
			"the listener cannot be shut down first, so the port is free when its process has ended: no right. 14:02:13.204\n", `"count":0,"error":"no right"`},
		{reclaim.Event{Kind: reclaim.EventRestored, Holder: unknown()},
			"pid 77 shares the listener, which listens again. 14:02:13.204\n", `"event":"restored"`},
		{reclaim.Event{Kind: reclaim.EventRestored, Holder: unknown(), Err: errors.New("taken")},
			"pid 77 shares the listener and no longer listens: taken. 14:02:13.204\n", `"error":"taken"`},
		{reclaim.Event{Kind: reclaim.EventCut, Holder: unknown(), Count: 1},
			"destroyed the connection of pid 77. 14:02:13.204\n", `"event":"cut"`},
		{reclaim.Event{Kind: reclaim.EventRespawn, Holder: unknown(), Took: 40 * time.Millisecond},
			"started again: pid 77, after 40 ms. 14:02:13.204\n", `"took_ms":40`},
		{reclaim.Event{Kind: reclaim.EventProbe, Probe: refused, Verdict: &v, Deadline: at.Add(3 * time.Second)},
			"refused: " + strings.TrimSuffix(v.Summary, ".") + ". 14:02:13.204\n", `"bindable":false,"verdict":{"schema":1,`},
		{reclaim.Event{Kind: reclaim.EventProbe, Probe: netstate.Probe{Spec: v.Spec}},
			"", `"bindable":true`},
		{reclaim.Event{Kind: reclaim.EventBindable, Probe: netstate.Probe{Spec: v.Spec}},
			"127.0.0.1:18789 can be bound. 14:02:13.204\n", `"bindable":true`},
		{reclaim.Event{Kind: reclaim.EventTimeout, Verdict: &v},
			"timed out: " + strings.TrimSuffix(v.Summary, ".") + ". 14:02:13.204\n", `"bindable":false`},
		{reclaim.Event{Kind: reclaim.EventError, Err: errors.New("no")},
			"stopped: no. 14:02:13.204\n", `"error":"no"`},
		{reclaim.Event{Kind: reclaim.EventCancelled},
			"cancelled; what was done stays done. 14:02:13.204\n", `"event":"cancelled"`},
	}
	for _, tt := range tests {
		tt.event.At = at
		var text, line bytes.Buffer
		if err := (&report.Text{W: &text, UID: -1}).Event(&tt.event); err != nil {
			t.Fatal(err)
		}
		if text.String() != tt.text {
			t.Errorf("%s: text %q, want %q", tt.event.Kind, text.String(), tt.text)
		}
		if err := report.Encode(&line, report.NewEvent(&tt.event)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(line.String(), tt.json) || !strings.HasPrefix(line.String(), `{"schema":1,"event":"`) {
			t.Errorf("%s: JSON %s does not contain %s", tt.event.Kind, line.String(), tt.json)
		}
	}
}

func TestLaunchEvents(t *testing.T) {
	v := held()
	tests := []struct {
		event gatewaylaunch.Event
		text  string
		json  string
	}{
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventAttempt, Attempt: 1, Of: 5}, "", `"attempt":1,"of":5`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventStarted, Attempt: 1, Of: 5, PID: 9},
			"attempt 1 of 5: started pid 9. 14:02:13.204\n", `"pid":9`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventOutput, Stream: gatewaylaunch.Stderr, Line: "x"}, "", `"stream":"stderr","line":"x"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventReady, PID: 9, Line: "127.0.0.1:80", Took: 630 * time.Millisecond},
			"ready: pid 9 listens on 127.0.0.1:80 after 630 ms. 14:02:13.204\n", `"took_ms":630,"addr":"127.0.0.1:80"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventNotReady, Err: errors.New("not listening yet")},
			"not listening yet. 14:02:13.204\n", `"error":"not listening yet"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventExited, Exit: gatewaylaunch.ExitStatus{Code: 1}, Took: 2 * time.Second},
			"ended with status 1 after 2.0 s. 14:02:13.204\n", `"code":1`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventExited, Exit: gatewaylaunch.ExitStatus{Code: 137, Signal: 9}, Took: 2 * time.Second},
			"ended with signal 9 after 2.0 s. 14:02:13.204\n", `"code":137,"signal":9`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventInUse, Attempt: 1, Of: 5, Verdict: &v},
			"attempt 1 of 5 refused: " + strings.TrimSuffix(v.Summary, ".") + ". 14:02:13.204\n", `"event":"in-use"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventInUse, Attempt: 2, Of: 5},
			"attempt 2 of 5 refused: it said that its address is taken, and nothing visible holds it. 14:02:13.204\n", `"event":"in-use"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventRetry, Wait: 500 * time.Millisecond},
			"next attempt within 500 ms. 14:02:13.204\n", `"wait_ms":500`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventStarted, Attempt: 7, PID: 9},
			"attempt 7: started pid 9. 14:02:13.204\n", `"attempt":7,"pid":9`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventHeld, Of: 5, Wait: 2 * time.Second, Verdict: &v},
			strings.TrimSuffix(v.Summary, ".") + ". The command is started as soon as the port is free, at the latest in 2.0 s. 14:02:13.204\n", `"wait_ms":2000,"verdict":{`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventListening, State: gatewaylaunch.StateListening, PID: 9, Line: "127.0.0.1:80", Took: 630 * time.Millisecond},
			"pid 9 listens on 127.0.0.1:80 after 630 ms, and is asked for its health. 14:02:13.204\n", `"state":"listening","pid":9,"took_ms":630,"addr":"127.0.0.1:80"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventReady, State: gatewaylaunch.StateHealthy, PID: 9, Line: "127.0.0.1:80", Took: 630 * time.Millisecond},
			"ready: pid 9 listens on 127.0.0.1:80 and is healthy after 630 ms. 14:02:13.204\n", `"state":"healthy"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventHung, State: gatewaylaunch.StateHung, PID: 9, Line: "127.0.0.1:80", Err: &gatewaylaunch.HungError{Addr: "127.0.0.1:80", Waiting: 5, Since: 1, Took: 4 * time.Second}},
			"the gateway accepts no connection on 127.0.0.1:80: 5 wait, 4.0 s ago 1 did. 14:02:13.204\n", `"state":"hung"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventRecovered, PID: 9, Line: "127.0.0.1:80"},
			"it accepts connections again on 127.0.0.1:80. 14:02:13.204\n", `"event":"recovered"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventFound, PID: 9}, "found pid 9 running. 14:02:13.204\n", `"event":"found"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventExited, Exit: gatewaylaunch.ExitStatus{Code: -1}, Took: 2 * time.Second},
			"ended with a status that only its starter was told after 2.0 s. 14:02:13.204\n", `"code":null`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventExited, Exit: gatewaylaunch.ExitStatus{Code: 1}, Took: 2 * time.Second, Line: "EADDRINUSE\x1b[2J"},
			"ended with status 1 after 2.0 s. It spoke of an address in use, and the kernel knows of none: EADDRINUSE^[[2J. 14:02:13.204\n", `"said":"EADDRINUSE`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventFailed, Err: errors.New("no")}, "", `"error":"no"`},
		{gatewaylaunch.Event{Kind: gatewaylaunch.EventStopped, Exit: gatewaylaunch.ExitStatus{Code: 143, Signal: 15}, Took: time.Second},
			"stopped with signal 15 after 1.0 s. 14:02:13.204\n", `"event":"stopped"`},
	}
	for _, tt := range tests {
		tt.event.At = at
		var text, line bytes.Buffer
		if err := (&report.Text{W: &text, UID: -1}).Launch(&tt.event); err != nil {
			t.Fatal(err)
		}
		if text.String() != tt.text {
			t.Errorf("%s: text %q, want %q", tt.event.Kind, text.String(), tt.text)
		}
		if err := report.Encode(&line, report.NewLaunch(&tt.event)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(line.String(), tt.json) || !strings.HasPrefix(line.String(), `{"schema":1,"event":"`) {
			t.Errorf("%s: JSON %s does not contain %s", tt.event.Kind, line.String(), tt.json)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteErrorIsReturned(t *testing.T) {
	v := held()
	if err := (&report.Text{W: brokenWriter{}}).Verdict(&v); err == nil {
		t.Error("Verdict hides the writer's error")
	}
	if err := report.Encode(brokenWriter{}, report.NewVerdict(&v)); err == nil {
		t.Error("Encode hides the writer's error")
	}
}

// TestSupervisorLine: what is not known is never said as if it were, and
// another process's words reach no terminal as they are.
func TestSupervisorLine(t *testing.T) {
	for want, s := range map[string]netstate.Supervisor{
		"systemd: nginx.service (systemctl stop nginx.service)":         {Kind: netstate.SupervisorSystemd, Name: "nginx.service", Restarts: netstate.Yes, Stop: "systemctl stop nginx.service"},
		"docker: 3f2a61c09b1e, perhaps (docker stop 3f2a61c09b1e)":      {Kind: netstate.SupervisorDocker, Name: "3f2a61c09b1e", Stop: "docker stop 3f2a61c09b1e"},
		"foreman: web.1, not by itself (kill 7)":                        {Kind: "foreman", Name: "web.1", Restarts: netstate.No, Stop: "kill 7"},
		"nodemon, when a file changes (kill 5)":                         {Kind: "nodemon", Restarts: netstate.Yes, OnChange: true, Stop: "kill 5"},
		"systemd, which holds the port itself (systemctl list-sockets)": {Kind: netstate.SupervisorSystemd, Restarts: netstate.Yes, HoldsPort: true, Find: "systemctl list-sockets"},
	} {
		v := held()
		h := v.Blockers[0].Holders[0]
		h.Supervisor = &s
		v.Blockers[0].Holders = []netstate.Holder{h}
		var buf bytes.Buffer
		if err := (&report.Text{W: &buf, UID: -1}).Verdict(&v); err != nil {
			t.Fatal(err)
		}
		if line := "    restarts " + want + "\n"; !strings.Contains(buf.String(), line) {
			t.Errorf("no line %q in\n%s", line, buf.String())
		}
	}
}
