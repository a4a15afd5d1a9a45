package gatewaylaunch

import (
	"context"
	"runtime"
	"time"

	"berth/netstate"
)

const (
	// probeEvery is how often a pause probes where the system reports no end of
	// a socket.
	probeEvery = 25 * time.Millisecond
	// wheelStep is how often it does between the end of a TIME-WAIT timer and
	// the moment at which the kernel lets the socket go, which it never reports.
	wheelStep = 5 * time.Millisecond
)

// hold keeps the first attempt back while the port is known to be taken: by a
// bind with the gateway's options, and by one with every option that could help
// it. A server that is started then can only fail, some of them after minutes
// of silence. It returns false, and the status to end with, if the launch is to
// stop meanwhile.
func (r *run) hold(ctx context.Context) (again bool, status ExitStatus) {
	most := r.left(time.Now())
	if r.GuessedPort || most <= 0 || !r.taken(r.Spec) || !r.taken(mostOptions(r.Spec)) {
		return true, ExitStatus{}
	}
	v, err := r.Kernel.Why(ctx, r.Spec)
	if err != nil || v.Bindable || clearsAfter(&v, time.Now().Add(most)) {
		// What is wrong, or that it takes too long, is told by the attempt: the
		// gateway may bind another address than the one that was assumed.
		return true, ExitStatus{}
	}
	r.emit(Event{Kind: EventHeld, Verdict: &v, Wait: most})
	return r.await(ctx, &v, 0, most)
}

func (r *run) taken(spec netstate.BindSpec) bool {
	return r.Kernel.TryBind(spec).Class() == netstate.ClassInUse
}

// mostOptions is the bind of the same address that the fewest sockets refuse.
// On Windows SO_REUSEADDR means to take a port away from its owner, which no
// server is presumed to do.
func mostOptions(spec netstate.BindSpec) netstate.BindSpec {
	if runtime.GOOS != "windows" {
		spec.ReuseAddr, spec.ReusePort = true, true
	}
	return spec
}

// pause waits between two attempts: until the refused bind would succeed, at
// most for what is left of the budget, after which the last attempt comes in
// any case; or for the interval, if nothing is known to wait for.
func (r *run) pause(ctx context.Context, a *attempt) (again bool, status ExitStatus) {
	most, floor := r.left(time.Now()), r.floor()
	if a.refusal == nil {
		most = min(most, r.blind())
	}
	r.emit(Event{Kind: EventRetry, Wait: most})
	if again, status = r.await(ctx, a.refusal, min(floor, most), most); !again && status == (ExitStatus{}) {
		status = a.exit
	}
	return again, status
}

// await waits until the refused bind would succeed, but at least for floor and
// at most for most. Without a verdict it waits for most. It returns false if
// the launch is to stop.
func (r *run) await(ctx context.Context, v *netstate.Verdict, floor, most time.Duration) (again bool, status ExitStatus) {
	began := time.Now()
	taken := false
	defer func() { r.paused(time.Since(began), taken) }()
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	var wake <-chan struct{}
	if v == nil {
		floor = most
	} else {
		wake = r.Kernel.Wake(waiting, v.Spec)
	}
	end := time.NewTimer(most)
	defer end.Stop()
	// What ended before the events were subscribed to is seen by the first look.
	look := time.NewTimer(floor)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ExitStatus{}
		case sig := <-r.signals:
			if ends(sig) {
				return false, statusOfSignal(sig)
			}
			continue
		case <-end.C:
			return true, ExitStatus{}
		case <-wake:
		case <-look.C:
		}
		if ctx.Err() != nil {
			return false, ExitStatus{} // both were ready, and nothing may follow a cancel
		}
		if v == nil || time.Since(began) < floor {
			continue
		}
		if r.Kernel.TryBind(v.Spec).Bindable() {
			return true, ExitStatus{}
		}
		taken = true
		if d, ok := nextLook(time.Now(), v, wake != nil); ok {
			look.Reset(d)
		}
	}
}

// nextLook says when to probe again if no event comes; ok is false if events
// are all that has to be waited for.
func nextLook(now time.Time, v *netstate.Verdict, events bool) (d time.Duration, ok bool) {
	if c := v.Clears; c.Known() && (v.Reason == netstate.ReasonLingering || !events) && now.Before(c.Until.Add(time.Second)) {
		return max(c.From.Sub(now), wheelStep), true
	}
	// A probe without SO_REUSEADDR could collide with another server's start,
	// so such a one is not made in a loop.
	return probeEvery, !events && v.Spec.ReuseAddr
}
