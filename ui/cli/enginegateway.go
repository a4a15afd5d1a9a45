package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"berth/gatewaylaunch"
)

// errRunning is returned for a second launch while the first goes on.
var errRunning = errors.New("the gateway runs already: stop it first, or restart it")

// StartGateway launches the gateway in the background and stays with it until
// it has ended.
func (e *engine) StartGateway(ctx context.Context, on func(gatewaylaunch.Event)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended, err := e.begin(stop)
	if err != nil {
		return err
	}
	defer close(ended)
	defer e.settle()

	log, err := gatewaylaunch.OpenLog(e.log)
	if err != nil {
		return err
	}
	defer log.Close()
	launcher := e.launch.launcher(e.gateway, gatewaylaunch.NewKernel(e.sys))
	launcher.Log, launcher.Tie = log, e.demo
	var clients visitors
	defer clients.leave()
	run := func(on func(gatewaylaunch.Event)) error {
		_, err := launcher.Run(ctx, on)
		return err
	}
	if rec := e.running(); rec != nil {
		run = func(on func(gatewaylaunch.Event)) error { return launcher.Adopt(ctx, *rec, on) }
	}
	pid := 0
	err = run(func(ev gatewaylaunch.Event) {
		e.record(&launcher, &ev, &pid)
		switch ev.Kind {
		case gatewaylaunch.EventListening:
			e.settle()
		case gatewaylaunch.EventReady:
			e.settle()
			if e.demo {
				clients.come(ctx, e.gateway.spec)
			}
		case gatewaylaunch.EventNotReady:
			e.settle()
		case gatewaylaunch.EventExited, gatewaylaunch.EventStopped:
			clients.leave()
		}
		on(ev)
		if ev.Kind != gatewaylaunch.EventOutput {
			e.Refresh()
		}
	})
	if errors.Is(err, context.Canceled) {
		return nil // It was asked to end, and EventStopped told how it did.
	}
	return err
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

// record keeps the record of the running gateway, so that the next berth finds
// it: pid is that of the process that was started. Without the record it is only
// not found, so a failure to write it ends nothing.
func (e *engine) record(l *gatewaylaunch.Launcher, ev *gatewaylaunch.Event, pid *int) {
	if e.demo {
		return
	}
	switch ev.Kind {
	case gatewaylaunch.EventStarted:
		*pid = ev.PID
		if rec, err := l.NewRecord(ev.PID); err == nil {
			_ = rec.Write(e.state)
		}
	case gatewaylaunch.EventFound:
		*pid = ev.PID
	case gatewaylaunch.EventExited, gatewaylaunch.EventStopped:
		_ = gatewaylaunch.RemoveRecord(e.state, *pid)
	}
}

// begin registers a launch; the channel is to be closed when it has ended.
func (e *engine) begin(stop context.CancelFunc) (chan struct{}, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.ended:
	default:
		return nil, errRunning
	}
	e.ended = make(chan struct{})
	e.stop, e.launching = stop, true
	return e.ended, nil
}

// settle ends the time in which no probe is made.
func (e *engine) settle() {
	e.mu.Lock()
	e.launching = false
	e.mu.Unlock()
}

// StopGateway asks the running gateway to end and waits until it has.
func (e *engine) StopGateway(ctx context.Context) error {
	e.mu.Lock()
	stop, ended := e.stop, e.ended
	e.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	select {
	case <-ended:
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
