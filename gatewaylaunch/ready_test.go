//go:build unix

package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
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
	port := specOf(freeAddress(t)).Port
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
	r := launch(t, Launcher{Command: helperCommand("serve", fmt.Sprintf("127.0.0.2:%d", port), fmt.Sprintf("127.0.0.1:%d", port)), Spec: spec, Kernel: realKernel(t)}, stopWhen(EventReady))
	// Both listen in the end; whether the first look found one or both is
	// left open, but the expected one is preferred if it is there.
	if e := r.first(EventReady); e.Line != fmt.Sprintf("127.0.0.1:%d", port) && e.Line != fmt.Sprintf("127.0.0.2:%d", port) {
		t.Errorf("ready at %q", e.Line)
	}
	spec.Port = specOf(freeAddress(t)).Port
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
