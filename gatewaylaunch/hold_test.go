//go:build unix

package gatewaylaunch

import (
	"context"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"berth/netstate"
)

func refuse(netstate.BindSpec) error { return os.NewSyscallError("bind", syscall.EADDRINUSE) }

func newRun(k Kernel, retry Retry) *run {
	return &run{Launcher: &Launcher{Kernel: k, Spec: anySpec, Retry: retry}, pace: pace{Retry: retry, began: time.Now()}}
}

// A pause is pure waiting, so its time can be tested exactly.
func TestPause(t *testing.T) {
	refusal := &netstate.Verdict{Spec: anySpec}
	pause := func(r *run, a *attempt, ctx context.Context) (bool, time.Duration) {
		start := time.Now()
		again, _ := r.pause(ctx, a)
		return again, time.Since(start)
	}
	check := func(name string, again bool, took, want time.Duration) {
		t.Helper()
		if !again || took != want {
			t.Errorf("%s: again %v after %v, want %v", name, again, took, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		again, took := pause(newRun(&scripted{tryBind: refuse}, DefaultRetry()), &attempt{refusal: refusal}, t.Context())
		check("refused all the time", again, took, 2*time.Second)

		again, took = pause(newRun(&scripted{}, DefaultRetry()), &attempt{}, t.Context())
		check("nothing known to wait for", again, took, 500*time.Millisecond)

		again, took = pause(newRun(&scripted{}, DefaultRetry()), &attempt{refusal: refusal}, t.Context())
		check("free already", again, took, 0)

		freed := time.Now().Add(120 * time.Millisecond)
		until := func(spec netstate.BindSpec) error {
			if time.Now().Before(freed) {
				return refuse(spec)
			}
			return nil
		}
		again, took = pause(newRun(&scripted{tryBind: until}, DefaultRetry()), &attempt{refusal: refusal}, t.Context())
		check("freed, no events", again, took, 125*time.Millisecond)

		freed = time.Now().Add(120 * time.Millisecond)
		wake := make(chan struct{}, 1)
		go func() {
			for range 2 { // the first wakes for nothing
				time.Sleep(60 * time.Millisecond)
				wake <- struct{}{}
			}
		}()
		k := &scripted{tryBind: until, wake: wake}
		again, took = pause(newRun(k, DefaultRetry()), &attempt{refusal: refusal}, t.Context())
		check("freed, with events", again, took, 120*time.Millisecond)
		if len(k.probes) != 3 {
			t.Errorf("%d probes, want one at the start and one for each event", len(k.probes))
		}

		// Nothing reports the end of a TIME-WAIT, but its time is known.
		freed = time.Now().Add(time.Second + 12*time.Millisecond)
		lingering := lingeringVerdict(anySpec, time.Second)
		k = &scripted{tryBind: until, wake: make(chan struct{})}
		again, took = pause(newRun(k, DefaultRetry()), &attempt{refusal: &lingering}, t.Context())
		check("a TIME-WAIT, with events", again, took, time.Second+15*time.Millisecond)

		// Without SO_REUSEADDR and without events there is one probe only.
		plain := *refusal
		plain.Spec.ReuseAddr = false
		k = &scripted{tryBind: refuse}
		again, took = pause(newRun(k, DefaultRetry()), &attempt{refusal: &plain}, t.Context())
		check("plain bind", again, took, 2*time.Second)
		if len(k.probes) != 1 {
			t.Errorf("%d probes of a bind without SO_REUSEADDR, want 1", len(k.probes))
		}

		// A signal that a gateway would only note does not end the pause.
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGUSR1
		r := newRun(&scripted{tryBind: refuse}, DefaultRetry())
		r.signals = signals
		time.AfterFunc(50*time.Millisecond, func() { signals <- syscall.SIGTERM })
		start := time.Now()
		if again, status := r.pause(t.Context(), &attempt{refusal: refusal}); again || time.Since(start) != 50*time.Millisecond || status.Code != 143 {
			t.Errorf("SIGTERM: again %v after %v, status %v", again, time.Since(start), status)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 70*time.Millisecond)
		defer cancel()
		if again, took := pause(newRun(&scripted{tryBind: refuse}, DefaultRetry()), &attempt{refusal: refusal}, ctx); again || took != 70*time.Millisecond {
			t.Errorf("cancelled: again %v after %v", again, took)
		}
	})
}

func TestHold(t *testing.T) {
	holder := netstate.Holder{ID: netstate.ProcessID{PID: 4211}, Name: "node"}
	held := func(spec netstate.BindSpec) netstate.Verdict { return heldVerdict(spec, holder) }
	for _, tt := range []struct {
		name   string
		k      *scripted
		retry  Retry
		change func(*run)
		held   bool
		took   time.Duration
	}{
		{name: "free", k: &scripted{}, retry: DefaultRetry()},
		{name: "held for good", k: &scripted{tryBind: refuse, why: held}, retry: DefaultRetry(), held: true, took: 2 * time.Second},
		{name: "held, a time given", k: &scripted{tryBind: refuse, why: held}, retry: Retry{Retries: 4, Interval: time.Second, For: time.Minute}, held: true, took: time.Minute},
		{name: "held, no retries", k: &scripted{tryBind: refuse, why: held}},
		{name: "held, a port that nobody told", k: &scripted{tryBind: refuse, why: held}, retry: DefaultRetry(), change: func(r *run) { r.GuessedPort = true }},
		{
			name: "refused to our options only", retry: DefaultRetry(),
			k: &scripted{why: held, tryBind: func(s netstate.BindSpec) error {
				if s.ReusePort {
					return nil // the holder shares its port
				}
				return refuse(s)
			}},
		},
		{
			name: "a TIME-WAIT that outlasts the budget", retry: DefaultRetry(),
			k: &scripted{tryBind: refuse, why: func(s netstate.BindSpec) netstate.Verdict { return lingeringVerdict(s, time.Minute) }},
		},
		{name: "not permitted", retry: DefaultRetry(), k: &scripted{tryBind: func(netstate.BindSpec) error { return syscall.EACCES }}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRun(tt.k, tt.retry)
				var events []Event
				r.on = func(e Event) { events = append(events, e) }
				if tt.change != nil {
					tt.change(r)
				}
				start := time.Now()
				if again, _ := r.hold(t.Context()); !again || time.Since(start) != tt.took {
					t.Errorf("again %v after %v, want %v", again, time.Since(start), tt.took)
				}
				if (len(events) == 1 && events[0].Kind == EventHeld && events[0].Wait == tt.took) != tt.held {
					t.Errorf("events %+v", events)
				}
			})
		})
	}
}

// What follows on refused attempts: how long, how often, and when to stop.
func TestPace(t *testing.T) {
	at := time.Now()
	p := pace{Retry: DefaultRetry(), began: at}
	var floors, blinds []time.Duration
	for range loopLimit {
		p.refused(false)
		floors, blinds = append(floors, p.floor()/p.Interval), append(blinds, p.blind()/p.Interval)
	}
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 8} {
		if floors[i] != want {
			t.Errorf("the least pauses are %v", floors)
			break
		}
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 8, 8} {
		if blinds[i] != want {
			t.Errorf("the blind pauses are %v", blinds)
			break
		}
	}
	if !p.looping() {
		t.Errorf("%d refused attempts in a row are no loop", loopLimit)
	}
	p.paused(9*p.Interval, false)
	if !p.looping() {
		t.Error("a blind pause ended the loop")
	}
	p.paused(9*p.Interval, true)
	if p.looping() || p.floor() != 0 {
		t.Error("waiting for a holder is part of a loop")
	}
	if p.refused(true); p.quick != 0 {
		t.Error("an attempt on a port that is known to be held says something new")
	}

	for _, tt := range []struct {
		name     string
		pace     pace
		attempts int
		after    time.Duration
		again    bool
	}{
		{"one of five", pace{Retry: DefaultRetry()}, 1, time.Hour, true},
		{"five of five", pace{Retry: DefaultRetry()}, 5, 0, false},
		{"waited for the whole budget", pace{Retry: DefaultRetry(), waited: 2 * time.Second}, 1, 0, false},
		{"no interval", pace{Retry: Retry{Retries: 1}}, 1, 0, true},
		{"no retries", pace{Retry: Retry{Interval: time.Second}}, 1, 0, false},
		{"within the time", pace{Retry: Retry{For: time.Minute}}, 1000, 59 * time.Second, true},
		{"after the time", pace{Retry: Retry{For: time.Minute}}, 1, time.Minute, false},
	} {
		tt.pace.began = at
		if got := tt.pace.again(tt.attempts, at.Add(tt.after)); got != tt.again {
			t.Errorf("%s: again %v", tt.name, got)
		}
	}
}

// A command that is refused again and again although nothing is in the way is
// started less and less often, and then not any more.
func TestCrashLoopStops(t *testing.T) {
	l := Launcher{
		Command: helperCommand("say", "1", "OSError: [Errno 98] Address already in use"),
		Spec:    anySpec, GuessedPort: true, Retry: Retry{For: time.Hour, Interval: time.Millisecond}, Kernel: &scripted{},
	}
	r := launch(t, l, nil)
	inUse, ok := r.err.(*InUseError)
	if !ok || !inUse.Loop || inUse.Attempts != loopLimit || inUse.Elapsed < (1+2+4+8+8)*time.Millisecond {
		t.Errorf("error %+v", r.err)
	}
	if inUse.Hint() == "" {
		t.Error("no hint")
	}
}
