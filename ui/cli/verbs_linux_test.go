package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"berth/netstate/lab"
)

// fresh returns a port that no test of this run has used, so that what one
// leaves in TIME-WAIT is in no other's way, in any number of runs.
func fresh() string { return portText(freshPort()) }

func freshPort() uint16 { return uint16(5000 + ports.Add(1)) }

var ports atomic.Uint32

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// scene brings a port into a state for the length of the test.
func scene(t *testing.T, state, addr string, opts lab.Options) *lab.Scene {
	t.Helper()
	lab.NeedNamespace(t)
	s, err := lab.Make(state, at(addr), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Each row of the exit statuses, by a socket in the state that causes it.
func TestWhyStatus(t *testing.T) {
	reuse := lab.Options{ReuseAddr: true}
	tests := []struct {
		state, addr string
		opts        lab.Options
		flags       string
		status      int
		says        string
	}{
		{"", "127.0.0.1:PORT", reuse, "", 0, "✓ 127.0.0.1:PORT can be bound now."},
		{"TIME-WAIT", "127.0.0.1:PORT", reuse, "", 0, "✓ 127.0.0.1:PORT can be bound now: SO_REUSEADDR ignores the TIME-WAIT socket there."},
		{"LISTEN", "127.0.0.1:PORT", reuse, "", 3, "listens on 127.0.0.1:PORT"},
		{"BOUND", "127.0.0.1:PORT", lab.Options{}, "", 3, "has bound 127.0.0.1:PORT without listening"},
		{"ESTAB", "127.0.0.1:PORT", lab.Options{}, "", 3, "ESTAB"},
		{"TIME-WAIT", "127.0.0.1:PORT", lab.Options{}, "", 4, "TIME-WAIT"},
		{"TIME-WAIT", "127.0.0.1:PORT", reuse, "--reuseaddr=false", 4, "without SO_REUSEADDR"},
		{"LISTEN", "[::]:PORT", reuse, "", 3, "dual-stack"},
		{"LISTEN", "[::]:PORT", lab.Options{ReuseAddr: true, V6Only: true}, "", 0, "can be bound now"},
		{"LISTEN", "127.0.0.1:PORT", reuse, "--host ::1", 0, "[::1]:PORT can be bound now"},
		{"LISTEN", "127.0.0.1:PORT", reuse, "--host any", 3, "0.0.0.0:PORT cannot be bound"},
		{"LISTEN", "127.0.0.1:PORT", lab.Options{ReusePort: true}, "--reuseport", 0, "can be bound now"},
		{"LISTEN", "[::]:PORT", lab.Options{ReuseAddr: true, V6Only: true}, "--host :: --v6only", 3, "listens on [::]:PORT"},
		{"", "127.0.0.1:PORT", reuse, "--host 192.0.2.1", 8, "192.0.2.1 is not an address of this machine"},
	}
	for _, tt := range tests {
		t.Run(tt.state+" "+tt.addr+" "+tt.flags, func(t *testing.T) {
			lab.NeedNamespace(t)
			port := fresh()
			here := func(s string) string { return strings.ReplaceAll(s, "PORT", port) }
			if tt.state != "" {
				scene(t, tt.state, here(tt.addr), tt.opts)
			}
			berth(t, append([]string{"why", port}, strings.Fields(tt.flags)...)...).is(t, tt.status, here(tt.says), "")
		})
	}
}

// asNobody runs an act as a user without any right; only root can do that, an
// ordinary user is one.
func asNobody(t *testing.T, args ...string) result {
	t.Helper()
	if os.Geteuid() != 0 {
		return berth(t, args...)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), actEnv+"=berth", "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(e)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), err.String()}
}

// A low port without the right is status 5 whatever is asked, and no waiting.
func TestDenied(t *testing.T) {
	lab.NeedNamespace(t)
	const why = "127.0.0.1:80 cannot be bound: ports below 1024 need a privilege that this user does not have"
	asNobody(t, "why", "80").is(t, 5, why, "")
	asNobody(t, "free", "80", "--yes").is(t, 5, why, "nothing was done")
	asNobody(t, "wait", "80", "--timeout", "1h").is(t, 5, why, why)
	command := serving("127.0.0.1:80", 0)
	asNobody(t, append([]string{"run", "--port", "80", "--force", "--yes", "--"}, command...)...).is(t, 5, "", "nothing was done")
	asNobody(t, append([]string{"run", "--port", "80", "--"}, command...)...).is(t, 5, "", why)
}

// Another user's process is named, and not signalled.
func TestHiddenHolder(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have a process of another user")
	}
	scene(t, "LISTEN", "127.0.0.1:"+port, lab.Options{})
	asNobody(t, "why", port).is(t, 3, "127.0.0.1:"+port, "")
	asNobody(t, "free", port, "--yes").is(t, 5, "run berth as root", "\nberth: hint: sudo berth free "+port+" --yes\n")
}

// The scenes of "Done when": JSON names what holds the port.
func TestWhyJSON(t *testing.T) {
	lab.NeedNamespace(t)
	me := float64(os.Getpid())
	server := "127.0.0.1:" + fresh()
	tests := []struct {
		name, reason, state string
		make                func(t *testing.T, port string)
		pid                 any // of the holder, or nil
		more                map[string]any
	}{
		{"bound without listening", "bound", "BOUND", func(t *testing.T, port string) {
			scene(t, "BOUND", "127.0.0.1:"+port, lab.Options{})
		}, me, nil},
		{"left by a server without SO_REUSEADDR", "lingering", "TIME-WAIT", func(t *testing.T, port string) {
			scene(t, "TIME-WAIT", "127.0.0.1:"+port, lab.Options{})
		}, nil, nil},
		{"outgoing connection", "in-use", "ESTAB", func(t *testing.T, port string) {
			l, err := lab.Listen(at(server), lab.Options{ReuseAddr: true})
			if err != nil {
				t.Fatal(err)
			}
			c, err := l.Dial(lab.Route{From: at("127.0.0.1:" + port)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close(); l.Close() })
		}, me, map[string]any{"remote": server, "outbound": true}},
		{"dual-stack listener", "held", "LISTEN", func(t *testing.T, port string) {
			scene(t, "LISTEN", "[::]:"+port, lab.Options{ReuseAddr: true})
		}, me, map[string]any{"addr": "::", "v6only": false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			port := fresh()
			tt.make(t, port)
			v := berth(t, "why", port, "--json").object(t)
			if v["schema"] != 1.0 || v["bindable"] != false || v["errno"] != "EADDRINUSE" || v["evidence"] != "bind" || v["reason"] != tt.reason {
				t.Errorf("the verdict is %v", v)
			}
			b := v["blockers"].([]any)[0].(map[string]any)
			if b["state"] != tt.state || b["certain"] != true {
				t.Errorf("the blocker is %v", b)
			}
			for k, want := range tt.more {
				if b[k] != want {
					t.Errorf("the blocker's %s is %v, want %v", k, b[k], want)
				}
			}
			holders := b["holders"].([]any)
			if tt.pid == nil {
				// The timer wheel frees the socket up to a slot after the 60 s.
				ms, ok := b["clears_in_ms"].(float64)
				if len(holders) != 0 || !ok || ms < 30_000 || ms > 65_120 {
					t.Errorf("a TIME-WAIT socket has holders %v and clears in %v", holders, b["clears_in_ms"])
				}
				return
			}
			h := holders[0].(map[string]any)
			if h["pid"] != tt.pid || h["name"] == nil || h["started"] == nil || h["uid"] != float64(os.Getuid()) || h["fd"] == nil {
				t.Errorf("the holder is %v, want pid %v with its facts", h, tt.pid)
			}
		})
	}
}

// The JSON of "why" has the fields that the design promises to scripts.
func TestWhyJSONFields(t *testing.T) {
	port := fresh()
	scene(t, "LISTEN", "127.0.0.1:"+port, lab.Options{ReuseAddr: true})
	v := berth(t, "why", port, "--json").object(t)
	want := map[string]string{
		"":         "schema at bind bindable errno evidence reason summary blockers clears_in_ms cures matrix",
		"bind":     "host port reuseaddr reuseport v6only uid netns",
		"blockers": "addr port remote state reuseaddr reuseport flags_from uid clears_in_ms holders",
		"cures":    "action text command",
		"matrix":   "host reuseaddr reuseport v6only bindable",
		"holder":   "pid started name cmdline user uid cwd fd parents unit container",
	}
	pick := func(name string) map[string]any {
		switch name {
		case "":
			return v
		case "bind":
			return v["bind"].(map[string]any)
		case "holder":
			return v["blockers"].([]any)[0].(map[string]any)["holders"].([]any)[0].(map[string]any)
		}
		return v[name].([]any)[0].(map[string]any)
	}
	for name, fields := range want {
		for _, f := range strings.Fields(fields) {
			if _, ok := pick(name)[f]; !ok {
				t.Errorf("%s has no field %q", name, f)
			}
		}
	}
}

func TestList(t *testing.T) {
	port1, port2, port3 := fresh(), fresh(), fresh()
	lab.NeedNamespace(t)
	scene(t, "LISTEN", "127.0.0.1:"+port1, lab.Options{})
	scene(t, "TIME-WAIT", "127.0.0.1:"+port2, lab.Options{ReuseAddr: true})
	l, err := lab.Listen(at("127.0.0.1:"+port3), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Dial(lab.Route{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client := fmt.Sprint(c.Client.Addr().Port())
	me := fmt.Sprintf(" %d (you)", os.Getpid())

	// lines are the lines of the list by port.
	lines := func(args ...string) map[string]string {
		t.Helper()
		r := berth(t, append([]string{"list"}, args...)...)
		if r.status != 0 || r.err != "" {
			t.Fatalf("status %d, stderr %q", r.status, r.err)
		}
		byPort := map[string]string{}
		for _, line := range strings.Split(r.out, "\n") {
			if f := strings.Fields(line); len(f) > 0 {
				byPort[f[0]] = line
			}
		}
		return byPort
	}
	all := lines()
	if !strings.Contains(all[port1], "✗ held") || !strings.Contains(all[port1], me) {
		t.Errorf("the listener's line is %q", all[port1])
	}
	if f := strings.Fields(all[port3]); len(f) < 6 || f[3] != "1" || f[4] != "1" {
		t.Errorf("the line with one LISTEN and one ESTAB is %q", all[port3])
	}
	if all[client] != "" {
		t.Errorf("the client's port %s is listed without --all", client)
	}
	if lines("--all")[client] == "" || lines("--port", client)[client] == "" {
		t.Errorf("the client's port %s cannot be asked for", client)
	}
	if only := lines("--port", port1); only[port1] == "" || only[port3] != "" {
		t.Errorf("--port "+port1+" lists %v", only)
	}
	if only := lines("--all", "--state", "time_wait"); only[port2] == "" || only[port1] != "" {
		t.Errorf("--state time_wait lists %v", only)
	}
	if plain := lines("--plain")[port1]; !strings.HasPrefix(plain, port1+" held: 1 LISTEN, by ") {
		t.Errorf("--plain says %q", plain)
	}
	if r := berth(t); r.status != 0 || !strings.Contains(r.out, port1) {
		t.Errorf("berth without a terminal: status %d, %q", r.status, r.out)
	}
	berth(t, port1).is(t, 3, "listens on 127.0.0.1:"+port1, "")

	v := berth(t, "list", "--json", "--port", port1).object(t)
	p := v["ports"].([]any)[0].(map[string]any)
	if v["schema"] != 1.0 || p["proto"] != "tcp" || fmt.Sprint(p["port"]) != port1 || p["bindable"] != false || p["reason"] != "held" || p["evidence"] != "rules" {
		t.Errorf("list --json is %v", v)
	}
	if pid := p["holders"].([]any)[0].(map[string]any)["pid"]; pid != float64(os.Getpid()) {
		t.Errorf("the holder is pid %v", pid)
	}
	s := p["sockets"].([]any)[0].(map[string]any)
	if s["state"] != "LISTEN" || s["pids"].([]any)[0] != float64(os.Getpid()) || s["remote"] != nil {
		t.Errorf("the socket is %v", s)
	}
}

// events decodes the lines of a JSON stream.
func events(t *testing.T, out string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var v map[string]any
		if err := d.Decode(&v); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		if v["schema"] != 1.0 || v["event"] == nil || v["at"] == nil {
			t.Errorf("an event without schema, name or time: %v", v)
		}
		all = append(all, v)
	}
}

func names(all []map[string]any) string {
	var names []string
	for _, e := range all {
		names = append(names, e["event"].(string))
	}
	return strings.Join(names, " ")
}

// settled takes a holder that was still ending when its port was free, as one
// can be on a busy machine, for one that had ended.
func settled(names string) string { return strings.Replace(names, "draining", "exit", 1) }

func TestFree(t *testing.T) {
	port1, port2, port3, port4, port5, port6, port7, port8 := fresh(), fresh(), fresh(), fresh(), fresh(), fresh(), fresh(), fresh()
	lab.NeedNamespace(t)
	t.Run("nothing to do", func(t *testing.T) {
		berth(t, "free", port1).is(t, 0, "127.0.0.1:"+port1+" can be bound.", "")
	})
	t.Run("unconfirmed", func(t *testing.T) {
		p := start(t, "hold", "127.0.0.1:"+port2)
		p.await(t, "holding")
		berth(t, "free", port2).is(t, 7, "SIGTERM to ", "there is no terminal to ask on; nothing was signalled\nberth: hint: add --yes\n")
		berth(t, "free", port2, "--dry-run").is(t, 0, "SIGTERM to ", "")
		berth(t, append([]string{"run", "--port", port2, "--force", "--dry-run", "--"}, serving("127.0.0.1:"+port2, 0)...)...).is(t, 0, "", "SIGTERM to ")
		p.stdin.Close()
		if status := p.end(t); status != 0 {
			t.Errorf("the holder ended with %d, so it was signalled", status)
		}
	})
	t.Run("graceful", func(t *testing.T) {
		p := start(t, "hold", "127.0.0.1:"+port3)
		p.await(t, "holding")
		r := berth(t, "free", port3, "--yes", "--json")
		all := events(t, r.out)
		if r.status != 0 || settled(names(all)) != "signal exit probe bindable" || all[0]["signal"] != "SIGTERM" {
			t.Errorf("status %d, events %v, stderr %q", r.status, all, r.err)
		}
		if status := p.end(t); status != 128+int(syscall.SIGTERM) {
			t.Errorf("the holder ended with %d", status)
		}
	})
	t.Run("deaf", func(t *testing.T) {
		p := start(t, "hold", "127.0.0.1:"+port4, "deaf")
		p.await(t, "holding")
		berth(t, "free", port4, "--yes", "--grace", "20ms", "--no-kill").is(t, 3, "SIGTERM sent to ", "berth: ")
		berth(t, "free", port4, "--yes", "--grace", "20ms").is(t, 0, "SIGKILL sent to ", "")
		if status := p.end(t); status != 128+int(syscall.SIGKILL) {
			t.Errorf("the holder ended with %d", status)
		}
	})
	t.Run("signal and fast", func(t *testing.T) {
		for _, flags := range [][]string{{"--signal", "int"}, {"--fast"}} {
			p := start(t, "hold", "127.0.0.1:"+port8)
			p.await(t, "holding")
			want := "SIGINT sent to "
			if flags[0] == "--fast" {
				want = "SIGKILL sent to "
			}
			berth(t, append([]string{"free", port8, "--yes"}, flags...)...).is(t, 0, want, "")
			p.end(t)
		}
		for args, says := range map[string]string{
			"--signal KILL":       `--signal cannot be "KILL": it takes TERM, INT, HUP or QUIT`,
			"--fast --no-kill":    "--fast sends SIGKILL at once, so --no-kill has no meaning with it",
			"--fast --signal=HUP": "--fast sends SIGKILL at once, so --signal has no meaning with it",
		} {
			berth(t, append([]string{"free", port8}, strings.Fields(args)...)...).is(t, 2, "", says)
		}
	})
	t.Run("ourselves", func(t *testing.T) {
		scene(t, "LISTEN", "127.0.0.1:"+port5, lab.Options{})
		berth(t, "free", port5, "--yes").is(t, 7, "is this berth", "nothing was done")
		all := events(t, berth(t, "free", port5, "--yes", "--json").out)
		if names(all) != "plan" || all[0]["feasible"] != false {
			t.Errorf("events %v", all)
		}
	})
	t.Run("lingering", func(t *testing.T) {
		scene(t, "TIME-WAIT", "127.0.0.1:"+port6, lab.Options{})
		berth(t, "free", port6, "--yes").is(t, 4, "TIME-WAIT", "--destroy")
		r := berth(t, "free", port6, "--yes", "--destroy")
		switch {
		case os.Geteuid() != 0:
			r.is(t, 5, "CAP_NET_ADMIN", "nothing was done")
		case strings.Contains(r.out, "on a kernel that can destroy sockets"):
			t.Skip("needs a kernel with CONFIG_INET_DIAG_DESTROY")
		default:
			r.is(t, 0, "destroyed 1 socket", "")
		}
	})
	t.Run("wrong name", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root, to signal another user's process")
		}
		p := startAs(t, 65534, "hold", "127.0.0.1:"+port7)
		p.await(t, "holding")
		berth(t, "free", port7, "--yes").is(t, 7, "SIGTERM to ", "must be confirmed by name")
		berth(t, "free", port7, "--yes", "--confirm", "other").is(t, 7, "SIGTERM to ", "--confirm other is not the name of the process")
		name := events(t, berth(t, "free", port7, "--dry-run", "--json").out)[0]["confirm"].(string)
		berth(t, "free", port7, "--yes", "--confirm", name).is(t, 0, "can be bound", "")
	})
}

// trigger calls its function at the first write that contains its text.
type trigger struct {
	bytes.Buffer
	mu   sync.Mutex
	text string
	do   func()
}

func (w *trigger) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.Buffer.Write(b)
	if w.do != nil && strings.Contains(w.String(), w.text) {
		w.do()
		w.do = nil
	}
	return n, err
}

func TestWait(t *testing.T) {
	port1, port2 := fresh(), fresh()
	lab.NeedNamespace(t)
	berth(t, "wait", port1).is(t, 0, "127.0.0.1:"+port1+" can be bound.", "")

	s := scene(t, "LISTEN", "127.0.0.1:"+port2, lab.Options{})
	berth(t, "wait", port2, "--timeout", "30ms").is(t, 6, "refused: ", "berth: still refused after ")
	berth(t, "wait", port2, "--timeout", "0s").is(t, 6, "refused: ", "berth: still refused after ")

	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out := &trigger{text: "refused", do: cancel}
		var err bytes.Buffer
		status := Main(ctx, []string{"wait", port2, "--timeout", "1h"}, std(out, &err))
		result{status, out.String(), err.String()}.is(t, 130, "refused: ", "berth: interrupted\n")
	})
	t.Run("freed", func(t *testing.T) {
		out := &trigger{text: "refused", do: func() { s.Close() }}
		var err bytes.Buffer
		status := Main(t.Context(), []string{"wait", port2, "--timeout", "1m"}, std(out, &err))
		result{status, out.String(), err.String()}.is(t, 0, "127.0.0.1:"+port2+" can be bound.", "")
	})
}

// What was done before an interruption stays done, and is said.
func TestFreeInterrupted(t *testing.T) {
	port := fresh()
	lab.NeedNamespace(t)
	p := start(t, "hold", "127.0.0.1:"+port, "deaf")
	p.await(t, "holding")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &trigger{text: "SIGTERM sent", do: cancel}
	var err bytes.Buffer
	status := Main(ctx, []string{"free", port, "--yes", "--grace", "1h"}, std(out, &err))
	result{status, out.String(), err.String()}.is(t, 130, "SIGTERM sent", "berth: interrupted; what was done stays done: SIGTERM was sent to ")
	p.stdin.Close()
	if status := p.end(t); status != 0 {
		t.Errorf("the deaf holder ended with %d", status)
	}
}

// The demo gateway is a server like any other: it says what bind said, in the
// words that a launcher listens for, and berth adds why.
func TestDemoGatewayRefused(t *testing.T) {
	port := fresh()
	scene(t, "LISTEN", "127.0.0.1:"+port, lab.Options{})
	berth(t, "demo", "gateway", "--port", port).is(t, 3, "", "address already in use\nberth: hint: 127.0.0.1:"+port+" cannot be bound: ")
	berth(t, "demo", "gateway", "--host", "192.0.2.1").is(t, 8, "", "192.0.2.1 is not an address of this machine")
}

func TestDemoGateway(t *testing.T) {
	lab.NeedNamespace(t)
	port := fresh()
	p := start(t, "berth", "demo", "gateway", "--port", port, "--until-eof")
	p.await(t, "listening on http://127.0.0.1:"+port)
	answers(t, "127.0.0.1:"+port)
	p.finish(t)
}
