package ui

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/netstate"
	"berth/ui/theme"
)

const (
	// slowAfter is when a screen says that it is waiting: what is faster
	// than this would only flash.
	slowAfter = 150 * time.Millisecond
	// fast is how often moving things are drawn, slow how often the rest.
	fast = 100 * time.Millisecond
	slow = time.Second
	// noticeFor is how long a notice stays.
	noticeFor = 5 * time.Second
)

// Options are what the program is started with.
type Options struct {
	// Reach says whose ports are shown first.
	Reach Reach
	// Port opens this port's page; 0 opens the overview. If the ports of all
	// network namespaces are shown, it only filters the overview.
	Port uint16
	// Launch starts the gateway at once, unless its port is taken.
	Launch bool
	// Found says that an earlier berth has left the gateway running: launching
	// it means to watch it, and the port is its own.
	Found bool
	// Theme is the look; theme.Choose picks one.
	Theme theme.Theme
	// Hostname, Kernel ("linux 6.18") and Version stand in the header and in
	// the help. User is the name of this user, to call a holder "you".
	Hostname, Kernel, Version, User string
	// NoAnimation lets numbers and bars change once a second only.
	NoAnimation bool
}

// Model is the whole program's state. It is the one tea.Model; pages and
// dialogs are plain parts of it. Update changes it and returns what is to be
// done outside, View draws it; neither reads a clock or waits for anything.
type Model struct {
	opts   Options
	th     theme.Theme
	engine Engine
	runner *runner

	width, height int
	blurred       bool
	// now is the newest time that a message carried.
	now time.Time
	out []effect
	ids int

	obs      Observation // the newest
	shown    Observation // what is on the screen: obs unless paused
	ended    bool        // the engine sends no more
	slowRead bool        // the first reading takes long enough to say so
	pausedAt time.Time   // zero: not paused
	past     history
	served   map[placeID]bool
	reach    Reach // whose ports are shown

	page    pages
	ports   portsPage
	port    portPage
	gateway gatewayPage
	job     *job // what runs on the run page; nil if nothing ever did
	dialog  *dialog
	help    helpPage

	notice      string
	noticeUntil time.Time

	tickGen   int
	tickEvery time.Duration
	refreshed time.Time // when a reading was last asked for
	focused   *netstate.BindSpec
	reached   Reach // what the engine was told of reach
	launched  bool  // Options.Launch has been considered
	quitting  bool
	leaving   bool // to quit when the gateway has ended
}

// New returns the program's model on an engine. Run runs it; a tea.Program of
// the caller's own can do so too, and must call Close after it has ended.
func New(engine Engine, opts Options) *Model {
	m := newModel(engine, opts)
	m.runner = newRunner(context.Background(), engine)
	return m
}

func newModel(engine Engine, opts Options) *Model {
	if opts.Theme.Name == "" {
		opts.Theme = theme.ANSI()
	}
	m := &Model{opts: opts, th: opts.Theme, engine: engine, reach: opts.Reach, served: map[placeID]bool{}, page: onPorts}
	m.gateway.info = engine.Gateway()
	m.gateway.follow = true
	m.ports.selected = placeOf(m.gateway.info.Spec).id()
	if at := (place{opts.Reach.NetNS, opts.Port}); at.port != 0 {
		m.ports.selected = at.id()
		if opts.Reach.All {
			m.ports.filter = strconv.Itoa(int(at.port))
		} else {
			m.openPort(at)
		}
	}
	return m
}

// Close ends what the model started and waits for it. A gateway that is not
// the embedded demo keeps running.
func (m *Model) Close() {
	if m.runner != nil {
		m.runner.close()
	}
}

// Init asks for the first observation.
func (m *Model) Init() tea.Cmd { return m.cmd(m.start()) }

func (m *Model) start() []effect {
	m.out = nil
	m.emit(effectObserve{})
	m.after(slowAfter, func(at time.Time) tea.Msg { return slowMsg{at: at} })
	m.settle()
	return m.out
}

// Update handles one message.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var next tea.Cmd
	if s, ok := msg.(streamedMsg); ok {
		msg, next = s.msg, s.next
	}
	return m, tea.Batch(m.cmd(m.handle(msg)), next)
}

func (m *Model) cmd(effects []effect) tea.Cmd {
	cmds := make([]tea.Cmd, len(effects))
	for i, e := range effects {
		cmds[i] = m.runner.cmd(e)
	}
	return tea.Batch(cmds...)
}

// handle changes the model and returns the effects of that.
func (m *Model) handle(msg tea.Msg) []effect {
	m.out = nil
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		if m.width == 0 || m.height == 0 {
			// A serial line does not know its size, and says so with zeros.
			m.width, m.height = 80, 24
		}
	case tea.FocusMsg:
		m.blurred = false
	case tea.BlurMsg:
		m.blurred = true
	case tea.KeyMsg:
		m.keys(msg)
	case observationMsg:
		m.observe(msg)
	case tickMsg:
		m.passed(msg.at)
		if msg.gen == m.tickGen {
			m.tickEvery = 0 // settle starts the next one
			m.refresh()
		}
	case slowMsg:
		m.passed(msg.at)
		if msg.id == 0 {
			m.slowRead = true
		} else if m.dialog != nil && m.dialog.id == msg.id {
			m.dialog.slow = true
		}
	case armedMsg:
		m.passed(msg.at)
		if m.dialog != nil && m.dialog.id == msg.id {
			m.dialog.armed = true
		}
	case planMsg:
		m.planned(msg)
	case runMsg:
		m.ran(msg)
	case runDoneMsg:
		m.runEnded(msg)
	case launchMsg:
		m.launchEvent(msg)
	case handoverMsg:
		m.handed(msg)
	case launchDoneMsg:
		m.launchEnded(msg)
	case stoppedMsg:
		if msg.err != nil {
			m.say("the gateway could not be stopped: " + msg.err.Error())
		}
	}
	m.settle()
	return m.out
}

func (m *Model) emit(e effect) { m.out = append(m.out, e) }

func (m *Model) after(d time.Duration, msg func(time.Time) tea.Msg) {
	m.emit(effectAfter{wait: d, msg: msg})
}

func (m *Model) newID() int { m.ids++; return m.ids }

// passed moves the model's time forward.
func (m *Model) passed(at time.Time) {
	if at.After(m.now) {
		m.now = at
	}
}

// at is the time that the screen shows: it stands still while paused.
func (m *Model) at() time.Time {
	if !m.pausedAt.IsZero() {
		return m.pausedAt
	}
	return m.now
}

// say shows a sentence above the footer for some seconds.
func (m *Model) say(text string) {
	m.notice, m.noticeUntil = text, m.now.Add(noticeFor)
}

func (m *Model) observe(msg observationMsg) {
	if msg.ended {
		m.ended = true
		return
	}
	m.emit(effectObserve{})
	m.passed(msg.obs.At)
	old := m.obs
	m.obs = msg.obs
	if m.obs.Snapshot == nil {
		m.obs.Table, m.obs.Others, m.obs.Note, m.obs.Owners = old.Table, old.Others, old.Note, old.Owners
	}
	if m.obs.Err != nil {
		m.past.miss(m.obs.At)
	} else if m.obs.Snapshot != nil {
		m.remember()
		m.launchAtStart()
	}
	if m.pausedAt.IsZero() {
		m.show()
	}
}

// remember adds the newest observation to the past of the ports.
func (m *Model) remember() {
	rows, _ := m.rowsOf(&m.obs, false)
	read := map[uint64]bool{}
	for _, t := range m.obs.tables() {
		if ns := t.Snapshot.NetNS; m.reach.shows(ns) {
			read[ns.ID] = true
		}
	}
	m.past.record(m.obs.At, read, rows)
	maps.DeleteFunc(m.served, func(id placeID, _ bool) bool { return !read[id.netns] })
}

// show puts the newest observation on the screen.
func (m *Model) show() {
	m.shown = m.obs
	m.ports.build(m)
	m.port.build(m)
	m.job.build(m)
}

// launchAtStart starts the gateway when the first reading shows that nothing
// refuses its port.
func (m *Model) launchAtStart() {
	if m.launched || !m.opts.Launch && !m.opts.Found {
		return
	}
	m.launched = true
	info := m.gateway.info
	if v, ok := m.obs.Verdicts[info.Spec.Port]; ok && !v.Bindable && !m.opts.Found {
		m.say(fmt.Sprintf("the gateway was not started: %s Press R to free the port and start it.", v.Summary))
		return
	}
	m.launch()
}

// settle brings everything that follows from the state into line with it:
// cursors, what the engine probes, how often the screen is drawn.
func (m *Model) settle() {
	if m.notice != "" && m.now.After(m.noticeUntil) {
		m.notice = ""
	}
	m.ports.settle(m)
	m.port.settle(m)
	m.gateway.settle(m)
	m.help.settle(m)

	if m.reach != m.reached {
		m.reached = m.reach
		m.emit(effectReach{m.reach})
	}
	if want := m.wantsFocus(); !sameSpec(want, m.focused) {
		m.focused = want
		m.emit(effectFocus{want})
	}
	if every := m.wantsTicks(); every != m.tickEvery {
		m.tickGen++
		m.tickEvery = every
		if gen := m.tickGen; every > 0 {
			m.after(every, func(at time.Time) tea.Msg { return tickMsg{at: at, gen: gen} })
		}
	}
}

// refresh asks for readings in quicker succession while a job changes the
// port, because then the port is what the person looks at.
func (m *Model) refresh() {
	if m.job.active() && m.page == onRun && m.now.Sub(m.refreshed) >= 2*fast {
		m.refreshed = m.now
		m.emit(effectRefresh{})
	}
}

// wantsFocus is the bind that the engine should really make each second: only
// that of the page that asks about it, and not while a run or a starting
// gateway is about to bind the same port.
func (m *Model) wantsFocus() *netstate.BindSpec {
	if m.page != onPort || m.quitting || m.job.active() {
		return nil
	}
	if m.gateway.starting() && m.port.id() == placeOf(m.gateway.info.Spec).id() {
		return nil
	}
	spec := m.spec(m.port.place)
	return &spec
}

// spec is the bind that is asked about at a place.
func (m *Model) spec(at place) netstate.BindSpec { return m.engine.Spec(at.netns, at.port) }

func sameSpec(a, b *netstate.BindSpec) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// wantsTicks is how often time alone changes the screen.
func (m *Model) wantsTicks() time.Duration {
	if m.quitting {
		return 0
	}
	if m.pausedAt.IsZero() && !m.opts.NoAnimation && !m.blurred && m.countsDown() {
		return fast
	}
	return slow
}

// countsDown reports whether something on the screen moves by itself.
func (m *Model) countsDown() bool {
	switch m.page {
	case onRun:
		return m.job.active() || m.job.waits(m)
	case onPort:
		return m.port.countsDown(m.at())
	case onGateway:
		return m.gateway.starting()
	}
	return m.ports.countsDown(m)
}

// Farewell is what to tell after the terminal is restored: what goes on
// without berth, and what was broken off. It is empty if there is nothing.
func (m *Model) Farewell() string {
	var lines []string
	if m.job.freeing() || m.job.handing() {
		lines = append(lines, m.job.brokenOff())
	}
	if s := m.gateway.farewell(); s != "" {
		lines = append(lines, s)
	}
	return strings.Join(lines, "\n")
}
