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

	log, err := openLog(e.log)
	if err != nil {
		return err
	}
	defer log.Close()
	launcher := gatewaylaunch.Launcher{
		Command:      e.gateway.command,
		Spec:         e.gateway.spec,
		Retry:        e.launch.retry,
		ReadyTimeout: e.launch.readyTimeout,
		Grace:        e.launch.grace,
		Log:          log,
		Tie:          e.demo,
		Kernel:       gatewaylaunch.NewKernel(e.sys),
	}
	var clients visitors
	defer clients.leave()
	_, err = launcher.Run(ctx, func(ev gatewaylaunch.Event) {
		switch ev.Kind {
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

// logPath is where the output of a gateway on this port is kept: in
// $XDG_STATE_HOME, by default ~/.local/state.
func logPath(getenv func(string) string, port uint16) (string, error) {
	state := getenv("XDG_STATE_HOME")
	if runtime.GOOS == "windows" && state == "" {
		state = getenv("LOCALAPPDATA")
	}
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no place for the gateway's log: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "berth", "gateway-"+portText(port)+".log"), nil
}

// openLog opens the log to be appended to. Only its owner may read it, since
// servers print secrets.
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep the gateway's output: %w", err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot keep the gateway's output: %w", err)
	}
	return f, nil
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }
