package ui

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/reclaim"
)

// handOver presses H, and what else, and goes on.
func handOver(st *stage, keys ...string) {
	st.press("H")
	st.advance(grace)
	st.press(keys...)
	st.advance(3 * time.Second)
}

func TestHandOver(t *testing.T) {
	st := start(t)
	st.press("H")
	st.advance(grace)
	expect(t, st, "Hand 18789 over", "1  keep what listens open", "2  SIGTERM to node 4211", "if it is still alive: SIGKILL",
		"3  start openclaw gateway run --port 18789, which gets the socket", "queue: the two never run together", "o overlap")
	st.press("y")
	st.advance(3 * time.Second)
	expect(t, st, "✓ done in", "Hand-over 18789 (queue)", "1 socket", "exited after 420 ms", "has got the socket of 127.0.0.1:18789", "pid 5377 listens")
	if h, r, l := wanted[effectHandOver](st), wanted[effectReclaim](st), wanted[effectLaunch](st); h != 1 || r != 0 || l != 0 {
		t.Errorf("%d hand-overs, %d runs, %d launches; want one of the first", h, r, l)
	}
	if len(st.script.plans) != 1 || !st.script.plans[0].HandOver || st.script.holds != 0 {
		t.Errorf("the plan that was asked for: %+v; %d are held", st.script.plans, st.script.holds)
	}
	st.press("2")
	expect(t, st, "1 listening socket is kept open", "SIGTERM to node 4211", "node 4211 exited after 420 ms", "started, pid 5377",
		"bind 127.0.0.1:18789, SO_REUSEADDR: has got the old server's socket (node 5377)",
		"listen 127.0.0.1:18789, backlog 511: ok (node 5377)", "the new server serves alone, after")
	st.press("q")
	st.advance(grace)
	expect(t, st, "Quit and keep the gateway running?", "Pid 5377 serves")
}

// With overlap the new server stands first on the page, as it does in time.
func TestHandOverOverlaps(t *testing.T) {
	st := start(t)
	st.press("H")
	st.advance(grace)
	st.press("o")
	expect(t, st, "2  start openclaw gateway run --port 18789, which gets the socket, and wait", "3  SIGTERM to node 4211", "o queue")
	st.press("o", "down", "y")
	st.advance(3 * time.Second)
	expect(t, st, "Hand-over 18789 (overlap)", "✓ done in")
	ready, stopped := -1, -1
	for i, e := range st.m.job.events {
		switch e.kind {
		case "ready":
			ready = i
		case "signal":
			stopped = i
		}
	}
	if ready < 0 || stopped < ready {
		t.Errorf("the old one was asked to end as event %d, the new one was ready as %d", stopped, ready)
	}
}

// The gateway of this berth is handed over to its own next instance, while the
// old launch is still watched.
func TestHandOverOfOurOwn(t *testing.T) {
	s := machine()
	s.sockets = nil
	st := newStage(s, opts(), 100, 30)
	t.Cleanup(st.close)
	st.press("L")
	st.advance(3 * time.Second)
	handOver(st, "y")
	expect(t, st, "✓ done in", "pid 5378 listens")
	if g := &st.m.gateway; g.pid != 5378 || !g.serving() || g.before != nil {
		t.Errorf("the gateway is %+v", g.launchState)
	}
}

func TestHandOverThatIsNotPossible(t *testing.T) {
	st := start(t)
	st.script.support = bindnotify.Support{Err: errors.New("this kernel has no seccomp user notification")}
	st.press("H")
	st.advance(grace)
	expect(t, st, "cannot be handed over here, so clients are refused for a moment", "this kernel has no", "start openclaw gateway run --port 18789; clients are refused")
	if st.sees("o overlap") {
		t.Error("another order is offered")
	}
}

// Nobody listens: the gateway is only started, and retried as with L.
func TestHandOverOfNothing(t *testing.T) {
	s := machine()
	s.sockets = nil
	st := newStage(s, opts(), 100, 30)
	t.Cleanup(st.close)
	st.press("H")
	st.advance(grace)
	expect(t, st, "Start the gateway on 18789?", "Nobody listens there")
	st.press("y")
	st.advance(3 * time.Second)
	expect(t, st, "✓ done in")
	if wanted[effectHandOver](st) != 0 || wanted[effectLaunch](st) != 1 || st.script.holds != 0 {
		t.Errorf("want one launch and no hand-over; %d plans are held", st.script.holds)
	}
}

// A new server that fails with overlap leaves the old one as it was.
func TestHandOverThatFails(t *testing.T) {
	s := machine()
	s.sockets = nil
	st := newStage(s, opts(), 100, 30)
	t.Cleanup(st.close)
	st.press("L")
	st.advance(3 * time.Second)
	s.fails = &gatewaylaunch.RestartError{Exit: gatewaylaunch.ExitStatus{Code: 1}, OldServes: true}
	handOver(st, "o", "y")
	expect(t, st, "✗ failed after", "the old one was not stopped and goes on")
	if g := &st.m.gateway; g.pid != 5377 || !g.serving() {
		t.Errorf("the gateway is %+v, and the old one goes on", g.launchState)
	}
	st.press("2")
	expect(t, st, "pid 5377", "SyntaxError")
}

// Esc stops the waiting for the old server's end, and after that only leads
// back: the new server is there to stay.
func TestHandOverStopped(t *testing.T) {
	st := start(t)
	st.script.exitAfter = 2 * time.Second
	st.press("H")
	st.advance(grace)
	st.press("y")
	st.advance(time.Second)
	st.press("esc")
	st.advance(0)
	expect(t, st, "stopped by you", "1 signal was sent and cannot be taken back")
	if st.script.launches != 0 {
		t.Error("the new server was started all the same")
	}

	st = start(t)
	st.script.boot = 2 * time.Second
	st.press("H")
	st.advance(grace)
	st.press("y")
	st.advance(time.Second)
	st.press("esc")
	st.advance(2 * time.Second)
	if st.m.page != onPort || wanted[effectCancel](st) != 0 || !st.m.gateway.serving() {
		t.Errorf("page %b, %d cancelled; the gateway is %+v", st.m.page, wanted[effectCancel](st), st.m.gateway.launchState)
	}
}

// An old server that does not end is told: both serve.
func TestHandOverThatLeavesBoth(t *testing.T) {
	st := start(t)
	handOver(st, "o", "y")
	st = start(t)
	st.script.boot = time.Hour
	handOver(st, "o", "y")
	id := st.m.gateway.id
	st.send(launchMsg{id, gatewaylaunch.Event{At: st.now, Kind: gatewaylaunch.EventReady, PID: 5377}})
	st.send(handoverMsg{id, gatewaylaunch.RestartEvent{At: st.now, Kind: gatewaylaunch.RestartBoth, Err: reclaim.ErrSurvived}})
	expect(t, st, "✗ failed after", "the old one beside it")
}

// Without a hand-over, a watched bind is a line of the gateway's story.
func TestWatchedBinds(t *testing.T) {
	st := healthy()
	call := bindnotify.Call{PID: 5377, Program: "node\x1b[31m", Addr: st.script.info.Spec.AddrPort(), Options: true, ReusePort: true}
	st.send(handoverMsg{st.m.gateway.id, gatewaylaunch.RestartEvent{At: st.now, Kind: gatewaylaunch.RestartBind,
		Bind: &bindnotify.Event{Kind: bindnotify.KindBind, Call: call, Errno: syscall.EADDRINUSE}}})
	expect(t, st, "✗ bind 127.0.0.1:18789, SO_REUSEPORT: EADDRINUSE (node")
	check(t, st, 80, 24)
}
