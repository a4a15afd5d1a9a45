package ui

import (
	"context"
	"errors"
	"time"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/reclaim"
)

// HandOver restarts the gateway on the machine with its listening socket.
func (s *script) HandOver(ctx context.Context, held Held, how gatewaylaunch.Handover, on func(gatewaylaunch.RestartEvent)) error {
	h := &scriptOver{script: s, ctx: ctx, on: on, at: s.time().Add(5 * time.Millisecond), plan: held.Plan()}
	h.begin = h.at
	err := h.run(how, held.Close)
	if err != nil || s.fails != nil {
		return err
	}
	return s.stay(ctx, h.pid, h.begin, func(e gatewaylaunch.Event) error {
		h.at = e.At
		return h.launch(e)
	}, &h.at)
}

// scriptOver is one hand-over of the script.
type scriptOver struct {
	*script
	ctx       context.Context
	on        func(gatewaylaunch.RestartEvent)
	at, begin time.Time
	plan      reclaim.Plan
	pid       int
}

func (h *scriptOver) emit(e gatewaylaunch.RestartEvent) error {
	if err := h.until(h.ctx, h.at); err != nil {
		return err
	}
	e.At = h.at
	h.on(e)
	return h.ctx.Err()
}

func (h *scriptOver) launch(e gatewaylaunch.Event) error {
	e.At, e.Attempt, e.Of = h.at, 1, 1
	return h.emit(gatewaylaunch.RestartEvent{Kind: gatewaylaunch.RestartLaunch, Launch: &e})
}

func (h *scriptOver) run(how gatewaylaunch.Handover, done func()) error {
	stop := func() error {
		defer done()
		if how != gatewaylaunch.Plain {
			h.keep()
		}
		return h.reclaim(h.ctx, h.plan, func(e reclaim.Event) {
			h.at = e.At
			h.on(gatewaylaunch.RestartEvent{At: e.At, Kind: gatewaylaunch.RestartStop, Stop: &e})
		})
	}
	steps := []func() error{h.adopt, stop, h.start}
	switch {
	case how == gatewaylaunch.Overlap && h.fails != nil:
		defer done()
		steps = []func() error{h.adopt, h.start}
	case how == gatewaylaunch.Overlap:
		steps = []func() error{h.adopt, h.start, stop}
	case how == gatewaylaunch.Plain:
		steps = steps[1:]
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return h.emit(gatewaylaunch.RestartEvent{Kind: gatewaylaunch.RestartDone, Took: h.at.Sub(h.begin)})
}

func (h *scriptOver) adopt() error {
	return h.emit(gatewaylaunch.RestartEvent{Kind: gatewaylaunch.RestartAdopted, Count: 1})
}

// keep lets the listener outlive the one who ends.
func (h *scriptOver) keep() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.sockets {
		k := &h.sockets[i]
		if k.State == netstate.Listen && k.Local == h.info.Spec.AddrPort() && k.pid != h.pid && k.until.IsZero() {
			k.until = h.at.Add(10*time.Millisecond + h.exitAfter + h.boot)
		}
	}
}

func (h *scriptOver) start() error {
	h.mu.Lock()
	h.launches++
	h.pid = h.nextPID
	h.nextPID++
	h.mu.Unlock()
	begin := h.at
	err := errors.Join(
		h.launch(gatewaylaunch.Event{Kind: gatewaylaunch.EventAttempt}),
		h.launch(gatewaylaunch.Event{Kind: gatewaylaunch.EventStarted, PID: h.pid}))
	h.at = h.at.Add(h.boot)
	if h.fails != nil {
		return errors.Join(err,
			h.launch(gatewaylaunch.Event{Kind: gatewaylaunch.EventOutput, Stream: gatewaylaunch.Both, Line: "SyntaxError: Unexpected token '}'"}),
			h.launch(gatewaylaunch.Event{Kind: gatewaylaunch.EventExited, PID: h.pid, Exit: gatewaylaunch.ExitStatus{Code: 1}, Took: h.boot}), h.fails)
	}
	call := bindnotify.Call{
		PID: h.pid, Program: "node", Addr: h.info.Spec.AddrPort(), Family: netstate.INET,
		Options: true, ReuseAddr: true, Backlog: 511,
	}
	bind := func(kind bindnotify.Kind, how bindnotify.How) error {
		return h.emit(gatewaylaunch.RestartEvent{Kind: gatewaylaunch.RestartBind, Bind: &bindnotify.Event{At: h.at, Kind: kind, How: how, Call: call}})
	}
	h.serve(h.pid, h.at)
	err = errors.Join(err, bind(bindnotify.KindBind, bindnotify.HowGiven), bind(bindnotify.KindListen, bindnotify.HowMade))
	h.at = h.at.Add(20 * time.Millisecond)
	return errors.Join(err,
		h.launch(gatewaylaunch.Event{Kind: gatewaylaunch.EventReady, PID: h.pid, Took: h.at.Sub(begin)}))
}
