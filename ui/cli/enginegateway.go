package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/ui"
)

// errRunning is returned for a second launch while the first goes on.
var errRunning = errors.New("the gateway runs already: stop it first, or restart it")

// StartGateway launches the gateway in the background and stays with it until
// it has ended.
func (e *engine) StartGateway(ctx context.Context, on func(gatewaylaunch.RestartEvent)) error {
	return e.stay(ctx, false, on, func(ctx context.Context, l *gatewaylaunch.Launcher, tell func(gatewaylaunch.RestartEvent)) error {
		launched := func(ev gatewaylaunch.Event) { tell(ofLaunch(&ev)) }
		if rec := e.running(); rec != nil {
			return l.Adopt(ctx, *rec, launched)
		}
		l.Starter = e.starter(ctx, tell)
		_, err := l.Run(ctx, launched)
		return err
	})
}

// HandOver is StartGateway in the place of the server that the plan stops.
func (e *engine) HandOver(ctx context.Context, held ui.Held, how gatewaylaunch.Handover, on func(gatewaylaunch.RestartEvent)) error {
	h, ok := held.(*heldPlan)
	if !ok {
		return errors.New("the plan is of another engine")
	}
	return e.stay(ctx, true, on, func(ctx context.Context, l *gatewaylaunch.Launcher, tell func(gatewaylaunch.RestartEvent)) error {
		r := gatewaylaunch.Restart{Launcher: *l, How: how, Old: h.held, Plan: h.plan, Support: h.support}
		_, err := r.Run(ctx, tell)
		return err
	})
}

// ofLaunch is an event of a launch as one of a restart.
func ofLaunch(ev *gatewaylaunch.Event) gatewaylaunch.RestartEvent {
	return gatewaylaunch.RestartEvent{At: ev.At, Kind: gatewaylaunch.RestartLaunch, Launch: ev}
}

// stay is what a launch and a hand-over have in common: over is set for the
// latter, which may begin while another launch goes on.
func (e *engine) stay(ctx context.Context, over bool, on func(gatewaylaunch.RestartEvent),
	run func(context.Context, *gatewaylaunch.Launcher, func(gatewaylaunch.RestartEvent)) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	w, err := e.begin(stop, over)
	if err != nil {
		return err
	}
	defer e.end(w)

	log, err := gatewaylaunch.OpenLog(e.log)
	if err != nil {
		return err
	}
	defer log.Close()
	launcher := e.launch.launcher(e.gateway, gatewaylaunch.NewKernel(e.sys))
	launcher.Log, launcher.Tie = log, e.demo
	rec := recorder{path: e.state, late: over}
	if e.demo {
		rec.path = "" // it ends with berth
	}
	var (
		clients visitors
		telling sync.Mutex // binds are told by goroutines of their own
	)
	defer clients.leave()
	err = run(ctx, &launcher, func(ev gatewaylaunch.RestartEvent) {
		telling.Lock()
		defer telling.Unlock()
		if l := ev.Launch; l != nil {
			rec.follow(&launcher, l)
			switch l.Kind {
			case gatewaylaunch.EventListening, gatewaylaunch.EventNotReady:
				e.settle(w)
			case gatewaylaunch.EventReady:
				e.settle(w)
				if e.demo {
					clients.come(ctx, e.gateway.spec)
				}
			case gatewaylaunch.EventExited, gatewaylaunch.EventStopped:
				clients.leave()
			}
		}
		on(ev)
		if ev.Launch == nil || ev.Launch.Kind != gatewaylaunch.EventOutput {
			e.Refresh()
		}
	})
	if errors.Is(err, context.Canceled) {
		return nil // It was asked to end, and EventStopped told how it did.
	}
	return err
}

// starter starts the gateway so that its binds are told, if that is wanted and
// possible; nil is the usual way.
func (e *engine) starter(ctx context.Context, tell func(gatewaylaunch.RestartEvent)) gatewaylaunch.Starter {
	if !e.watchBind {
		return nil
	}
	return &gatewaylaunch.Binds{Context: ctx, Config: bindnotify.Config{On: func(ev bindnotify.Event) {
		tell(gatewaylaunch.RestartEvent{At: ev.At, Kind: gatewaylaunch.RestartBind, Bind: &ev})
	}}}
}

// running is the record of the gateway if an earlier berth has left it running,
// or nil.
func (e *engine) running() *gatewaylaunch.Record {
	if e.demo {
		return nil
	}
	rec, err := gatewaylaunch.ReadRecord(e.state)
	if err != nil || !rec.Started(e.gateway.command) {
		return nil
	}
	return &rec
}

// recorder keeps the record of a gateway in the background, so that the next
// berth finds it. Without the record it is only not found, so a failure to
// write it ends nothing.
type recorder struct {
	path string // empty: no record
	// late is set if the record is to be written only when the gateway serves,
	// because there may be one of an old server until then.
	late bool
	pid  int // of the process that was started
}

func (r *recorder) follow(l *gatewaylaunch.Launcher, ev *gatewaylaunch.Event) {
	if r.path == "" {
		return
	}
	write := false
	switch ev.Kind {
	case gatewaylaunch.EventStarted:
		r.pid, write = ev.PID, !r.late
	case gatewaylaunch.EventFound:
		r.pid = ev.PID
	case gatewaylaunch.EventListening, gatewaylaunch.EventReady, gatewaylaunch.EventNotReady:
		write, r.late = r.late, false
	case gatewaylaunch.EventExited, gatewaylaunch.EventStopped:
		_ = gatewaylaunch.RemoveRecord(r.path, r.pid)
	}
	if write {
		if rec, err := l.NewRecord(r.pid); err == nil {
			_ = rec.Write(r.path)
		}
	}
}

// watched is a launch that the engine stays with.
type watched struct {
	launching bool          // started, and neither ready nor ended
	stop      func()        // asks the gateway to end
	ended     chan struct{} // closed when the launch has
	before    *watched      // what a hand-over takes the place of
}

// goesOn reports whether the launch has not ended.
func (w *watched) goesOn() bool {
	if w == nil {
		return false
	}
	select {
	case <-w.ended:
		return false
	default:
		return true
	}
}

// begin registers a launch, which end takes back. One that goes on must make
// way, unless the new one takes over from it.
func (e *engine) begin(stop context.CancelFunc, over bool) (*watched, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := &watched{launching: true, stop: stop, ended: make(chan struct{})}
	if e.newest.goesOn() {
		if !over {
			return nil, errRunning
		}
		w.before = e.newest
	}
	e.newest = w
	return w, nil
}

// end closes a launch. If what it was to replace goes on, that is the gateway
// again.
func (e *engine) end(w *watched) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.launching = false
	close(w.ended)
	if e.newest == w && w.before.goesOn() {
		e.newest = w.before
	}
}

// settle ends the time in which no probe is made.
func (e *engine) settle(w *watched) {
	e.mu.Lock()
	w.launching = false
	e.mu.Unlock()
}

// StopGateway asks the running gateway to end and waits until it has.
func (e *engine) StopGateway(ctx context.Context) error {
	e.mu.Lock()
	w := e.newest
	e.mu.Unlock()
	if w == nil {
		return nil
	}
	w.stop()
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// statePath is where what belongs to the gateway on this port is kept, its log
// and the record that it runs: in $XDG_STATE_HOME, by default ~/.local/state.
func statePath(getenv func(string) string, port uint16, ext string) (string, error) {
	state := getenv("XDG_STATE_HOME")
	if runtime.GOOS == "windows" && state == "" {
		state = getenv("LOCALAPPDATA")
	}
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no place for the gateway's state: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "berth", "gateway-"+portText(port)+ext), nil
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }
