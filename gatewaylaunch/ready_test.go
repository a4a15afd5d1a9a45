//go:build unix

package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"berth/netstate"
)

func TestNotReadyIsReportedAndGoesOn(t *testing.T) {
	table := errors.New("no table")
	for _, tt := range []struct {
		k    *scripted
		want string
	}{
		{&scripted{}, "the gateway runs, but does not listen on port 18789 after 0.0 s"},
		{&scripted{read: func() (*netstate.Snapshot, error) { return nil, table }}, "is not known: no table"},
	} {
		r := launch(t, Launcher{Command: helperCommand("stay"), Spec: anySpec, Kernel: tt.k, ReadyTimeout: time.Millisecond, Grace: time.Millisecond}, stopWhen(EventNotReady))
		if got := r.kinds(); got != "attempt started not-ready stopped" {
			t.Errorf("events %s", got)
		}
		e := r.first(EventNotReady)
		var late *NotReadyError
		if !errors.As(e.Err, &late) || !strings.Contains(e.Err.Error(), tt.want) || e.Took < time.Millisecond {
			t.Errorf("not-ready %+v, want %q", e, tt.want)
		}
		if tt.k.read != nil && !errors.Is(e.Err, table) {
			t.Errorf("%v does not wrap the reading's error", e.Err)
		}
		if (late.Hint() != "") != (tt.k.read == nil) {
			t.Errorf("hint %q", late.Hint())
		}
	}
}

func TestReady(t *testing.T) {
	addr := freeAddress(t)
	r := launch(t, Launcher{Command: helperCommand("serve", addr), Spec: specOf(addr), Retry: DefaultRetry(), Kernel: realKernel(t)}, stopWhen(EventReady))
	if got := r.kinds(); got != "attempt started ready stopped" || !errors.Is(r.err, context.Canceled) {
		t.Errorf("events %s, error %v", got, r.err)
	}
	if e := r.first(EventReady); e.PID != r.first(EventStarted).PID || e.Line != addr || e.Took <= 0 {
		t.Errorf("ready %+v", e)
	}
	if r.status.Signal != int(syscall.SIGTERM) || r.status.Code != 143 {
		t.Errorf("status %+v", r.status)
	}
	if !slices.Contains(r.lines(), "stdout listening on "+addr) {
		t.Errorf("output %q", r.lines())
	}
}

func TestReadyOnAnotherAddress(t *testing.T) {
	t.Parallel()
	port := specOf(quietAddress(t)).Port
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
	r := launch(t, Launcher{Command: helperCommand("serve", fmt.Sprintf("127.0.0.2:%d", port), fmt.Sprintf("127.0.0.1:%d", port)), Spec: spec, Kernel: realKernel(t)}, stopWhen(EventReady))
	if e := r.first(EventReady); e.Line != fmt.Sprintf("127.0.0.1:%d", port) {
		t.Errorf("ready at %q", e.Line)
	}
	// One that never comes to the expected address is ready only if that was a
	// guess; otherwise it is said what is missing.
	port = specOf(quietAddress(t)).Port
	l := Launcher{
		Command: helperCommand("serve", fmt.Sprintf("127.0.0.2:%d", port)), Kernel: realKernel(t), ReadyTimeout: 2 * time.Second,
		Spec: netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port),
	}
	r = launch(t, l, stopWhen(EventNotReady))
	if e := r.first(EventNotReady); e.Err == nil || !strings.Contains(e.Err.Error(), fmt.Sprintf("listens on 127.0.0.2:%d, but not on 127.0.0.1:%d after ", port, port)) {
		t.Errorf("not ready: %v", e.Err)
	}
	l.GuessedHost = true
	r = launch(t, l, stopWhen(EventReady))
	if e := r.first(EventReady); e.Line != fmt.Sprintf("127.0.0.2:%d", port) {
		t.Errorf("ready at %q", e.Line)
	}
	spec.Port = specOf(quietAddress(t)).Port
	r = launch(t, Launcher{Command: helperCommand("serve", fmt.Sprintf(":%d", spec.Port)), Spec: spec, Kernel: realKernel(t)}, stopWhen(EventReady))
	if e := r.first(EventReady); e.Line != fmt.Sprintf("[::]:%d", spec.Port) && e.Line != fmt.Sprintf("0.0.0.0:%d", spec.Port) {
		t.Errorf("ready at %q", e.Line)
	}
}

func TestReadyByADescendant(t *testing.T) {
	for _, session := range []string{"session", "detached"} {
		addr := freeAddress(t)
		c := helperCommand("spawn", "stay", session, "spawn", "stay", session, "serve", addr)
		r := launch(t, Launcher{Command: c, Spec: specOf(addr), Kernel: realKernel(t)}, stopWhen(EventReady))
		e := r.first(EventReady)
		if e.PID == 0 || e.PID == r.first(EventStarted).PID || e.Line != addr {
			t.Errorf("%s: ready %+v", session, e)
		}
		if running(e.PID) {
			t.Errorf("%s: the grandchild %d outlived the launch", session, e.PID)
		}
	}
}

func TestForeignListenerIsNeverReady(t *testing.T) {
	holder := listenLoopback(t) // this process is no descendant of the gateway
	r := launch(t, Launcher{
		Command: helperCommand("stay"), Spec: specOf(holder.Addr().String()), Kernel: realKernel(t),
		ReadyTimeout: 100 * time.Millisecond, Grace: time.Millisecond,
	}, stopWhen(EventNotReady))
	if got := r.kinds(); got != "attempt started not-ready stopped" {
		t.Errorf("events %s", got)
	}
}

// A gateway that listens on both addresses of the loopback is ready when both
// are there.
func TestReadyOnEveryExpectedAddress(t *testing.T) {
	t.Parallel()
	addr := quietAddress(t)
	six := fmt.Sprintf("[::1]:%d", specOf(addr).Port)
	ln, err := net.Listen("tcp", six)
	if err != nil {
		t.Skip("::1 cannot be bound here: ", err)
	}
	ln.Close()
	l := Launcher{Command: helperCommand("serve", addr, six), Spec: specOf(addr), Also: []netip.Addr{netip.IPv6Loopback()}, Kernel: realKernel(t)}
	if r := launch(t, l, stopWhen(EventReady)); r.kinds() != "attempt started ready stopped" {
		t.Errorf("events %s", r.kinds())
	}
	l.Command, l.ReadyTimeout = helperCommand("serve", addr), 2*time.Second
	r := launch(t, l, stopWhen(EventNotReady))
	if e := r.first(EventNotReady); e.Err == nil || !strings.Contains(e.Err.Error(), "but not on "+six) {
		t.Errorf("not ready: %v", e.Err)
	}
}

func healthOf(t *testing.T, url, body string, spec netstate.BindSpec) *Health {
	t.Helper()
	h, err := ParseHealth(url, body, spec)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestReadyByHealth(t *testing.T) {
	t.Parallel()
	addr := quietAddress(t)
	l := Launcher{Command: helperCommand("health", addr), Spec: specOf(addr), Kernel: realKernel(t)}
	l.Health = healthOf(t, "/healthz", `"ok":true`, l.Spec)
	r := launch(t, l, stopWhen(EventReady))
	if got := r.kinds(); got != "attempt started listening ready stopped" {
		t.Errorf("events %s", got)
	}
	// Two refusals, one answer without the body, and the good one.
	if n := count(r.lines(), "asked for /healthz"); n != 4 {
		t.Errorf("it was asked %d times: %q", n, r.lines())
	}
	var states []State
	for _, e := range r.events {
		if e.Kind != EventOutput && e.Kind != EventAttempt {
			states = append(states, e.State)
		}
	}
	if !slices.Equal(states, []State{StateStarting, StateListening, StateHealthy, StateExited}) {
		t.Errorf("states %v", states)
	}

	l.Health.Body = "no such body"
	l.ReadyTimeout = 2 * time.Second
	r = launch(t, l, stopWhen(EventNotReady))
	if e := r.first(EventNotReady); e.Err == nil || !strings.Contains(e.Err.Error(), "listens on "+addr+", but is not healthy by http://"+addr+"/healthz after ") {
		t.Errorf("not ready: %v", e.Err)
	}
}

// Somebody else's good health is nobody's evidence.
func TestHealthOfSomebodyElse(t *testing.T) {
	t.Parallel()
	stranger := listenLoopback(t)
	asked := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(asked) })}
	go server.Serve(stranger)
	defer server.Close()
	addr := quietAddress(t)
	l := Launcher{Command: helperCommand("serve", addr), Spec: specOf(addr), Kernel: realKernel(t), ReadyTimeout: 2 * time.Second}
	l.Health = healthOf(t, "http://"+stranger.Addr().String()+"/", "", l.Spec)
	r := launch(t, l, stopWhen(EventNotReady))
	if e := r.first(EventNotReady); e.Err == nil || !strings.HasSuffix(e.Err.Error(), "somebody else listens on "+stranger.Addr().String()) {
		t.Errorf("not ready: %v", e.Err)
	}
	select {
	case <-asked:
		t.Error("it was asked")
	default:
	}
}

func TestParseHealth(t *testing.T) {
	for _, tt := range []struct{ host, text, want string }{
		{"127.0.0.1", "/healthz", "http://127.0.0.1:8080/healthz"},
		{"0.0.0.0", "/healthz?x=1", "http://127.0.0.1:8080/healthz?x=1"},
		{"::", "/", "http://[::1]:8080/"},
		{"127.0.0.1", "https://localhost:1/x", "https://localhost:1/x"},
		{"127.0.0.1", "localhost:1/x", ""},
		{"127.0.0.1", "ftp://localhost/x", ""},
		{"127.0.0.1", "http:///x", ""},
		{"127.0.0.1", "", ""},
		{"127.0.0.1", "http://a b/", ""},
	} {
		h, err := ParseHealth(tt.text, "", netstate.NewBindSpec(netip.MustParseAddr(tt.host), 8080))
		if (err == nil) != (tt.want != "") || err == nil && h.URL.String() != tt.want {
			t.Errorf("%q: %v, %v", tt.text, h, err)
		}
	}
}

func TestWhoIsReached(t *testing.T) {
	listen := func(addr string, pid int) listener {
		ap := netip.MustParseAddrPort(addr)
		return listener{netstate.Socket{Local: ap, State: netstate.Listen}, pid}
	}
	v6only := listen("[::]:80", 7)
	v6only.V6Only = netstate.Yes
	for _, tt := range []struct {
		name string
		ls   []listener
		to   string
		want string
	}{
		{"nobody", nil, "127.0.0.1:80", "nobody"},
		{"the very address", []listener{listen("127.0.0.1:80", 7)}, "127.0.0.1:80", ""},
		{"every address", []listener{listen("0.0.0.0:80", 7)}, "127.0.0.1:80", ""},
		{"dual-stack", []listener{listen("[::]:80", 7)}, "127.0.0.1:80", ""},
		{"v6only", []listener{v6only}, "127.0.0.1:80", "nobody"},
		{"another address", []listener{listen("127.0.0.2:80", 7)}, "127.0.0.1:80", "nobody"},
		{"somebody else's very address first", []listener{listen("0.0.0.0:80", 7), listen("127.0.0.1:80", 0)}, "127.0.0.1:80", "somebody else"},
		{"its very address before somebody else's every", []listener{listen("0.0.0.0:80", 0), listen("127.0.0.1:80", 7)}, "127.0.0.1:80", ""},
		{"shared with somebody else", []listener{listen("127.0.0.1:80", 7), listen("127.0.0.1:80", 0)}, "127.0.0.1:80", "somebody else"},
	} {
		err := reaches(tt.ls, netip.MustParseAddrPort(tt.to))
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestQueue(t *testing.T) {
	at := time.Now()
	for _, tt := range []struct {
		looks []int
		want  string // of each: . same, G grew, S shrank
	}{
		{[]int{0, 0, 0, 0}, "...."},
		{[]int{1, 2, 3, 4}, "..G."},
		{[]int{1, 1, 1, 1, 2}, "....G"},
		{[]int{1, 0, 2, 0, 3}, "....."},
		{[]int{3, 2, 3, 2, 3}, "....."},
		{[]int{1, 2, 3, 3, 2, 0}, "..G.S."},
		{[]int{1, 2, 3, 0, 1, 2, 3}, "..GS..G"},
	} {
		var q queue
		var got strings.Builder
		for i, n := range tt.looks {
			got.WriteByte(".GS"[q.add(at.Add(time.Duration(i)*queueEvery), n)])
		}
		if got.String() != tt.want {
			t.Errorf("%v: %s, want %s", tt.looks, got.String(), tt.want)
		}
	}
}

// The whole life of a gateway that hangs and recovers, on a scripted machine.
func TestHungAndRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		owners := netstate.NewOwners()
		owners.Add(9, netstate.Holder{ID: netstate.ProcessID{PID: 42}})
		k := &scripted{
			read: func() (*netstate.Snapshot, error) {
				var sockets []netstate.Socket
				if age := time.Since(start); age >= 100*time.Millisecond {
					s := netstate.Socket{Local: anySpec.AddrPort(), Family: anySpec.Family, State: netstate.Listen, Inode: 9}
					if age > 10*time.Second && age < 30*time.Second {
						s.RecvQ = uint32(age / time.Second)
					}
					sockets = append(sockets, s)
				}
				return netstate.NewSnapshot(time.Now(), sockets, netstate.Caps{}), nil
			},
			owners: func([]netstate.Socket) *netstate.Owners { return owners },
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l := &Launcher{Spec: anySpec, Kernel: k}
		p := &process{pid: 42, group: &group{}}
		var kinds []EventKind
		for s := range l.watchState(ctx, p) {
			kinds = append(kinds, s.kind)
			switch at := time.Since(start); {
			case s.kind == EventReady && at > 150*time.Millisecond,
				s.kind == EventHung && (at < 14*time.Second || at > 17*time.Second),
				s.kind == EventRecovered && (at < 30*time.Second || at > 32*time.Second):
				t.Errorf("%s after %v", s.kind, at)
			}
			if s.kind == EventHung && !strings.HasPrefix(s.err.Error(), "the gateway accepts no connection on 127.0.0.1:18789: 1") {
				t.Errorf("hung: %v", s.err)
			}
		}
		if !slices.Equal(kinds, []EventKind{EventReady, EventHung, EventRecovered}) {
			t.Errorf("signs %v", kinds)
		}
		if n := len(k.reads); n > 45 {
			t.Errorf("the table was read %d times in a minute", n)
		}
	})
}
