package cli

import (
	"context"
	"errors"
	"fmt"

	"berth/gatewaylaunch"
)

// starting is how a detached server is started: Launcher.Run or Restart.Run.
type starting func(ctx context.Context, l gatewaylaunch.Launcher, on func(gatewaylaunch.RestartEvent)) (gatewaylaunch.ExitStatus, error)

// detach starts the server by start and returns once it serves, leaving it, or
// the error that it did not; then nothing new is left behind. over is set if it
// takes the place of another. It is kept as a gateway of the full-screen
// interface is: in a session of its own, with a log, and found by the next
// berth.
func (a *app) detach(parent context.Context, l gatewaylaunch.Launcher, over bool, start starting, tell func(gatewaylaunch.RestartEvent)) error {
	path, err := statePath(a.getenv, l.Spec.Port, ".log")
	if err != nil {
		return err
	}
	rec := recorder{late: over}
	if rec.path, err = statePath(a.getenv, l.Spec.Port, ".json"); err != nil {
		return err
	}
	log, err := gatewaylaunch.OpenLog(path)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	leave := make(chan struct{})
	l.Foreground, l.Log, l.Leave = false, log, leave
	ready, alone := false, !over // it serves, and no other one any more
	exit, err := start(ctx, l, func(ev gatewaylaunch.RestartEvent) {
		tell(ev)
		switch ev.Kind {
		case gatewaylaunch.RestartDone:
			alone = true
		case gatewaylaunch.RestartBoth:
			cancel(ev.Err)
			return
		}
		if e := ev.Launch; e != nil {
			rec.follow(&l, e)
			switch e.Kind {
			case gatewaylaunch.EventReady:
				ready = true
			case gatewaylaunch.EventNotReady:
				cancel(&failure{status: exitTimeout, err: e.Err, hint: "it was stopped; --ready-timeout gives it more time, and its output is in " + path})
				return
			}
		}
		if ready && alone && leave != nil {
			close(leave)
			leave = nil
		}
	})
	switch cause := context.Cause(ctx); {
	case errors.Is(err, gatewaylaunch.ErrLeft):
		a.note("it goes on by itself; its output is in " + path)
		return nil
	case parent.Err() != nil:
		return parent.Err()
	case cause != nil:
		return cause
	case err == nil:
		// Whatever its status: a server that has ended does not serve.
		return &failure{status: max(exit.Code, exitError), err: fmt.Errorf("the server ended with %s before it was ready", exit), hint: "its output is in " + path}
	}
	return err
}

// restartDetached is restart that does not stay with the server.
func (a *app) restartDetached(ctx context.Context, r gatewaylaunch.Restart) error {
	return a.detach(ctx, r.Launcher, true, func(ctx context.Context, l gatewaylaunch.Launcher, on func(gatewaylaunch.RestartEvent)) (gatewaylaunch.ExitStatus, error) {
		r.Launcher = l
		return r.Run(ctx, on)
	}, a.restartEvents())
}

// launchDetached starts the server where nobody is to be replaced.
func (a *app) launchDetached(ctx context.Context, l gatewaylaunch.Launcher) error {
	return a.detach(ctx, l, false, func(ctx context.Context, l gatewaylaunch.Launcher, on func(gatewaylaunch.RestartEvent)) (gatewaylaunch.ExitStatus, error) {
		return l.Run(ctx, func(ev gatewaylaunch.Event) { on(ofLaunch(&ev)) })
	}, a.restartEvents())
}
