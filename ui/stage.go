package ui

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/gatewaylaunch"
	"berth/reclaim"
)

// stage plays the real Model on a script, with a clock that it moves itself:
// it does each effect at once or at its time, in order, in one goroutine. A
// page that was reached on a stage was reached by the keys and messages that
// reach it in the program.
type stage struct {
	m      *Model
	script *script
	now    time.Time

	timers  []stageTimer
	streams []*stream
	cancels map[int]context.CancelFunc
	held    map[int]Held // by the dialog that asked
	next    time.Time    // of the next reading
	waiting bool         // the model waits for a reading
	ended   bool         // the model has quit
	done    []effect     // everything that the model wanted, for the tests

	film []Frame // what record has taken
}

type stageTimer struct {
	at  time.Time
	msg func(time.Time) tea.Msg
}

// stream is a run of the engine that is pulled one event at a time.
type stream struct {
	next func() (tea.Msg, bool)
	stop func()
	head tea.Msg   // the event that comes next
	at   time.Time // when
	idle bool      // it has nothing yet: ask again
	over bool
}

// between readings of the engine, as in the program.
const reading = time.Second

func newStage(s *script, opts Options, width, height int) *stage {
	st := &stage{m: newModel(s, opts), script: s, now: s.now, cancels: map[int]context.CancelFunc{}, held: map[int]Held{}}
	st.next = st.now
	st.do(st.m.start())
	st.send(tea.WindowSizeMsg{Width: width, Height: height})
	st.advance(0)
	return st
}

// close lets go of the runs that are still going on.
func (st *stage) close() {
	for _, s := range st.streams {
		s.stop()
	}
}

// send gives the model a message and does what it wants done.
func (st *stage) send(msg tea.Msg) { st.do(st.m.handle(msg)) }

// press types keys, by the names that bubbletea gives them.
func (st *stage) press(keys ...string) {
	for _, k := range keys {
		st.send(keyMsg(k))
	}
}

// keyMsg is the message of a key that bubbletea calls name.
func keyMsg(name string) tea.KeyMsg {
	for t := tea.KeyType(-100); t < 128; t++ {
		if t != tea.KeyRunes && (tea.Key{Type: t}).String() == name && name != "" {
			return tea.KeyMsg{Type: t}
		}
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(name)}
}

func (st *stage) do(effects []effect) {
	for _, e := range effects {
		st.done = append(st.done, e)
		switch e := e.(type) {
		case effectObserve:
			st.waiting = true
		case effectAfter:
			st.timers = append(st.timers, stageTimer{st.now.Add(e.wait), e.msg})
		case effectFocus:
			st.script.Focus(e.spec)
			st.next = st.now // the engine probes at once
		case effectReach:
			st.script.Look(e.reach)
			st.next = st.now
		case effectRefresh:
			st.next = st.now
		case effectPlan:
			held, err := st.script.Plan(context.Background(), e.req)
			if err != nil {
				st.send(planMsg{id: e.id, err: err})
				break
			}
			st.held[e.id] = held
			st.send(planMsg{id: e.id, plan: held.Plan(), support: held.Support()})
		case effectDrop:
			st.drop(e.asked)
		case effectReclaim:
			held := st.held[e.asked]
			if held == nil { // a test has begun without a dialog
				held = &scriptHeld{s: st.script, plan: st.m.job.plan}
				st.script.holds++
				st.held[e.asked] = held
			}
			st.cancels[e.id] = st.open(func(ctx context.Context, send func(tea.Msg)) tea.Msg {
				defer st.drop(e.asked)
				return runDoneMsg{e.id, held.Run(ctx, func(ev reclaim.Event) { send(runMsg{e.id, ev}) })}
			})
		case effectCancel:
			if cancel := st.cancels[e.id]; cancel != nil {
				cancel()
			}
			// What lies in the future will not happen any more.
			for _, s := range st.streams {
				switch msg := s.head.(type) {
				case runMsg:
					if msg.id == e.id {
						s.pull(st.now)
					}
				case handoverMsg:
					s.pull(st.now)
				}
			}
		case effectLaunch:
			st.open(func(ctx context.Context, send func(tea.Msg)) tea.Msg {
				return launchDoneMsg{e.id, st.script.StartGateway(ctx, func(ev gatewaylaunch.RestartEvent) { send(launchMsgOf(e.id, ev)) })}
			})
		case effectHandOver:
			held := st.held[e.asked]
			delete(st.held, e.asked)
			st.cancels[e.job] = st.open(func(ctx context.Context, send func(tea.Msg)) tea.Msg {
				return launchDoneMsg{e.id, st.script.HandOver(ctx, held, e.how, func(ev gatewaylaunch.RestartEvent) { send(launchMsgOf(e.id, ev)) })}
			})
		case effectStop:
			st.send(stoppedMsg{st.script.StopGateway(context.Background())})
		case effectQuit:
			st.ended = true
		}
	}
}

func (st *stage) drop(asked int) {
	if h := st.held[asked]; h != nil {
		delete(st.held, asked)
		h.Close()
	}
}

// open starts a run as a coroutine and returns what cancels its context.
func (st *stage) open(run func(ctx context.Context, send func(tea.Msg)) tea.Msg) context.CancelFunc {
	ctx, cancel := context.WithCancel(context.Background())
	seq := iter.Seq[tea.Msg](func(yield func(tea.Msg) bool) {
		more := true
		last := run(ctx, func(msg tea.Msg) {
			if more = more && yield(msg); !more {
				cancel() // nobody listens any more: the run is to end
			}
		})
		if more {
			yield(last)
		}
		cancel()
	})
	s := &stream{}
	s.next, s.stop = iter.Pull(seq)
	s.pull(st.now)
	st.streams = append(st.streams, s)
	return cancel
}

// pull fetches the next event of a run.
func (s *stream) pull(now time.Time) {
	msg, ok := s.next()
	s.head, s.over, s.idle, s.at = msg, !ok, false, now
	switch msg := msg.(type) {
	case runMsg:
		s.at = msg.event.At
	case handoverMsg:
		s.at = msg.event.At
	case launchMsg:
		s.at = msg.event.At
		s.idle = msg.event.Kind == ""
	}
}

// advance moves the clock by d and lets everything happen that is due until
// then, in the order of its time.
func (st *stage) advance(d time.Duration) {
	end := st.now.Add(d)
	for !st.ended && st.step(end) {
	}
	st.now = end
	st.script.now = end
}

// step does the first thing that is due until end; false if nothing is.
func (st *stage) step(end time.Time) bool {
	due := end
	var act func()
	consider := func(at time.Time, f func()) {
		if at.Before(st.now) {
			at = st.now
		}
		if at.Before(due) || act == nil && at.Equal(due) {
			due, act = at, f
		}
	}
	for _, s := range st.streams {
		if s.over {
			continue
		}
		if s.idle {
			s.pull(st.now)
		}
		if !s.idle && !s.over {
			consider(s.at, func() {
				msg := s.head
				s.pull(st.now)
				st.send(msg)
				st.next = st.now // something happened: the engine reads again
			})
		}
	}
	for i, t := range st.timers {
		consider(t.at, func() {
			st.timers = slices.Delete(st.timers, i, i+1)
			st.send(t.msg(st.now))
		})
	}
	if st.waiting {
		consider(st.next, func() {
			st.waiting = false
			st.next = st.now.Add(reading)
			st.send(observationMsg{obs: st.script.observe(st.now)})
		})
	}
	if act == nil {
		return false
	}
	st.now = due
	st.script.now = due
	act()
	return true
}

// view is what is on the screen.
func (st *stage) view() string { return st.m.View() }

// hold films a frame that stands for d. On the machine less time may pass:
// a reader needs longer for a dialog than the one who knows it.
func (st *stage) hold(d, pass time.Duration) {
	st.film = append(st.film, Frame{View: st.view(), Hold: d})
	st.advance(pass)
}

// record films d in steps, joining frames that look the same.
func (st *stage) record(d, step time.Duration) {
	for ; d > 0; d -= step {
		view := st.view()
		if n := len(st.film); n > 0 && st.film[n-1].View == view {
			st.film[n-1].Hold += step
		} else {
			st.film = append(st.film, Frame{View: view, Hold: step})
		}
		st.advance(step)
	}
}

// sees reports whether text is on the screen, whatever its style.
func (st *stage) sees(text string) bool { return strings.Contains(plain(st.view()), text) }
