package ui

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// live lets a script run on the clock until ctx ends, as the engine of a real
// program.
func live(ctx context.Context, s *script) *script {
	s.clock = time.Now
	s.sleep = func(ctx context.Context, until time.Time) error {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	go func() {
		for ctx.Err() == nil {
			select {
			case <-s.observations:
			default:
			}
			s.observations <- s.observe(time.Now())
			s.sleep(ctx, time.Now().Add(reading))
		}
		close(s.observations)
	}()
	return s
}

// program is a real tea.Program on a live script, in the time of a bubble.
type program struct {
	*tea.Program
	m   *Model
	out bytes.Buffer
	err chan error
}

func runProgram(ctx context.Context, s *script) *program { return runProgramOn(ctx, live(ctx, s)) }

func runProgramOn(ctx context.Context, engine Engine) *program {
	p := &program{m: New(engine, opts()), err: make(chan error, 1)}
	p.Program = tea.NewProgram(p.m, tea.WithoutSignalHandler(), tea.WithInput(nil), tea.WithOutput(&p.out), tea.WithContext(ctx))
	go func() {
		_, err := p.Run()
		p.err <- err
	}()
	p.Send(tea.WindowSizeMsg{Width: 100, Height: 30})
	return p
}

func (p *program) keys(names ...string) {
	for _, n := range names {
		p.Send(keyMsg(n))
	}
}

// TestProgram restarts the gateway twice in a real program: its commands, its
// goroutines, its timers.
func TestProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := machineAt(time.Now())
		s.sockets = free().sockets[:1] // the listener alone: the others have times of their own
		s.info.Demo = true
		p := runProgram(ctx, s)
		time.Sleep(time.Second)
		for range 2 {
			p.keys("R")
			time.Sleep(2 * grace)
			p.keys("y")
			time.Sleep(5 * time.Second)
		}
		p.keys("q")
		if err := <-p.err; err != nil {
			t.Fatal(err)
		}
		if p.m.gateway.state != gatewayListening || p.m.job.phase != phaseDone {
			t.Errorf("the gateway is in state %d, the job in phase %d:\n%s", p.m.gateway.state, p.m.job.phase, plain(strings.Join(p.m.screen(), "\n")))
		}
		if s.launches != 2 || len(s.plans) != 2 {
			t.Errorf("%d launches of %d plans, want 2 of 2", s.launches, len(s.plans))
		}
		// Every event came, in order: the story has no hole.
		var kinds []string
		for _, e := range p.m.job.events {
			kinds = append(kinds, e.kind)
		}
		if got := strings.Join(kinds, " "); got != "signal exit probe free attempt ready" {
			t.Errorf("the events of the last run: %s", got)
		}
		if !strings.Contains(p.out.String(), "done in") {
			t.Error("the terminal never showed the end of the run")
		}
		p.m.Close()
		s.mu.Lock()
		_, ended := s.ends[s.gatewayPID]
		s.mu.Unlock()
		if !ended {
			t.Error("the demo gateway was left running")
		}
		cancel()
		time.Sleep(2 * time.Second) // the program's last timers
	})
}

// TestProgramQuitsDuringRun: quitting ends the run's goroutine, and leaves a
// gateway that is not the demo alone.
func TestProgramQuitsDuringRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := machineAt(time.Now())
		s.sockets = nil
		p := runProgram(ctx, s)
		time.Sleep(time.Second)
		p.keys("L")
		time.Sleep(2 * time.Second)
		s.mu.Lock()
		s.exitAfter = time.Minute // it does not hear SIGTERM for a while
		s.mu.Unlock()
		p.keys("R")
		time.Sleep(2 * grace)
		p.keys("y")
		time.Sleep(500 * time.Millisecond)
		p.keys("ctrl+c", "ctrl+c")
		if err := <-p.err; err != nil {
			t.Fatal(err)
		}
		if got := p.m.Farewell(); !strings.Contains(got, "1 signal was sent and cannot be taken back") || !strings.Contains(got, "keeps running: pid 5377") {
			t.Errorf("farewell %q", got)
		}
		closed := make(chan struct{})
		go func() {
			p.m.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
		default:
			t.Error("Close waits for a gateway that is to go on")
		}
		cancel()
		time.Sleep(2 * time.Minute) // until it has ended, and with it its goroutine
	})
}

// terminal is an output that says when something was written to it.
type terminal struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen chan struct{}
}

func newTerminal(want string) *terminal { return &terminal{want: want, seen: make(chan struct{})} }

func (t *terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := strings.Contains(t.buf.String(), t.want)
	t.buf.Write(b)
	if !before && strings.Contains(t.buf.String(), t.want) {
		close(t.seen)
	}
	return len(b), nil
}

func (t *terminal) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

const (
	altScreenOn  = "\x1b[?1049h"
	altScreenOff = "\x1b[?1049l"
	cursorOn     = "\x1b[?25h"
	focusOff     = "\x1b[?1004l"
)

func restored(t *testing.T, out string) {
	t.Helper()
	for _, seq := range []string{altScreenOff, cursorOn, focusOff} {
		if i := strings.LastIndex(out, seq); i < strings.LastIndex(out, altScreenOn) {
			t.Errorf("the terminal was not restored: no %q at the end of %q", seq, out)
		}
	}
}

func TestRunQuits(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := newTerminal(altScreenOn)
	farewell, err := Run(ctx, live(ctx, machineAt(time.Now())), opts(), strings.NewReader("q"), out)
	if err != nil || farewell != "" {
		t.Errorf("farewell %q, error %v", farewell, err)
	}
	restored(t, out.String())
}

// TestRunEndsWithContext is how SIGHUP arrives.
func TestRunEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	in, w := io.Pipe()
	defer w.Close()
	out := newTerminal(altScreenOn)
	hangup := errors.New("the terminal hung up")
	go func() {
		<-out.seen
		cancel(hangup)
	}()
	_, err := Run(ctx, live(ctx, machineAt(time.Now())), opts(), in, out)
	if !errors.Is(err, hangup) {
		t.Errorf("error %v, want %v", err, hangup)
	}
	restored(t, out.String())
}

// broken is an engine in which planning panics.
type broken struct{ *script }

func (broken) Plan(context.Context, PlanRequest) (Held, error) { panic("a bug in the planner") }

func TestRunRestoresAfterPanic(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := newTerminal(altScreenOn)
	in, w := io.Pipe()
	defer w.Close()
	go func() {
		<-out.seen
		w.Write([]byte("R"))
	}()
	_, err := Run(ctx, broken{live(ctx, machineAt(time.Now()))}, opts(), in, out)
	if !errors.Is(err, tea.ErrProgramPanic) {
		t.Errorf("error %v, want a panic", err)
	}
	restored(t, out.String())
}
