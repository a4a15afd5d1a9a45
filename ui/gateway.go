package ui

import (
	"fmt"
	"strings"
	"time"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/ui/draw"
)

// keepLines is how many lines of the gateway's output are kept; its log file
// has all of them.
const keepLines = 2000

// gatewayState is what the launch has come to.
type gatewayState uint8

const (
	gatewayStopped gatewayState = iota
	gatewayStarting
	gatewayHeld     // its port is taken, and nothing was started yet
	gatewayRetrying // between two attempts
	gatewaySilent   // it runs, but is not ready in time
	gatewayAsked    // it listens, and is asked for its health
	gatewayListening
	gatewayHealthy
	gatewayHung // it listens and accepts nothing
	gatewayExited
	gatewayFailed
)

// logLine is one line of the gateway's story: its output, or what happened to
// it if kind is not EventOutput.
type logLine struct {
	at     time.Time
	kind   gatewaylaunch.EventKind
	stream gatewaylaunch.Stream
	text   string
}

// gatewayPage is the gateway that this berth starts: state, attempts, output.
//
//	╭─ Gateway ● listening · pid 5377 · up 12 s ────────── attempt 2 of 5 ─╮
//	│ openclaw gateway run --port 18789                                    │
//	│ log ~/.local/state/berth/gateway-18789.log                           │
//	╰──────────────────────────────────────────────────────────────────────╯
//	╭─ Output ───────────────────────────────────────────────── following ─╮
//	│ 14:02:18.212  attempt 1 of 5                                         │
//	│ 14:02:18.601  │ Error: listen EADDRINUSE …                           │
type gatewayPage struct {
	info GatewayInfo
	launchState
	// before is the launch that a hand-over takes the place of, while it goes
	// on; nil if there is none.
	before *launchState

	lines  []logLine
	follow bool
	scroll scroll
	page   int // rows of output on the screen
}

// launchState is what one launch has come to.
type launchState struct {
	id     int  // of the newest launch
	alive  bool // the engine still watches it
	state  gatewayState
	asked  bool // it was asked to stop
	relay  bool // start again as soon as the old launch has ended
	number int  // attempt
	of     int
	pid    int
	since  time.Time // of the state
	exit   gatewaylaunch.ExitStatus
	exited bool // exit is set
	err    error
	why    *netstate.Verdict // who had the port, at the last refused attempt
	retry  time.Time         // when the next attempt is due at the latest
	wait   time.Duration     // and how long that was ahead when it was said
	found  bool              // an earlier berth has started it
}

// starting reports whether a launch is under way and not ready.
func (g *gatewayPage) starting() bool {
	switch g.state {
	case gatewayStarting, gatewayHeld, gatewayRetrying, gatewayAsked:
		return g.alive
	}
	return false
}

// serving reports whether the gateway was ready and still runs.
func (g *gatewayPage) serving() bool {
	switch g.state {
	case gatewayListening, gatewayHealthy, gatewayHung:
		return g.alive
	}
	return false
}

// waiting reports whether the next attempt waits for the port.
func (g *gatewayPage) waiting() bool { return g.state == gatewayRetrying || g.state == gatewayHeld }

// attemptText is "attempt 2 of 5", or "attempt 2" where only their time is
// bounded.
func attemptText(n, of int) string {
	if of == 0 {
		return fmt.Sprintf("attempt %d", n)
	}
	return fmt.Sprintf("attempt %d of %d", n, of)
}

// launchKey starts the gateway if that makes sense.
func (m *Model) launchKey() {
	switch g := &m.gateway; {
	case g.serving():
		m.say(fmt.Sprintf("the gateway runs already (pid %d): R restarts it", g.pid))
	case g.alive:
		m.say("the gateway is being started already")
	default:
		m.launch()
	}
}

// launch starts the gateway, after the end of the old launch if that is still
// being watched.
func (m *Model) launch() {
	g := &m.gateway
	if g.alive {
		g.relay = true
		return
	}
	m.newLaunch()
	m.emit(effectLaunch{g.id})
}

func (m *Model) newLaunch() {
	m.gateway.launchState = launchState{id: m.newID(), alive: true, state: gatewayStarting, since: m.now}
	m.gateway.before = nil
}

// launchEvent takes one event of the launch into the state and the story.
func (m *Model) launchEvent(msg launchMsg) {
	g, e := &m.gateway, msg.event
	if msg.id != g.id {
		m.lastWords(msg)
		return
	}
	m.passed(e.At)
	text := ""
	switch e.Kind {
	case gatewaylaunch.EventAttempt:
		g.state, g.since, g.number, g.of = gatewayStarting, e.At, e.Attempt, e.Of
		text = attemptText(e.Attempt, e.Of)
	case gatewaylaunch.EventFound:
		g.state, g.since, g.pid, g.found = gatewayStarting, e.At, e.PID, true
		text = fmt.Sprintf("found running, pid %d", e.PID)
	case gatewaylaunch.EventHeld:
		g.state, g.since, g.retry, g.wait, g.why = gatewayHeld, e.At, e.At.Add(e.Wait), e.Wait, e.Verdict
		text = "the port is taken"
		if e.Verdict != nil && e.Verdict.Summary != "" {
			text = e.Verdict.Summary
		}
	case gatewaylaunch.EventListening:
		g.state, g.since, g.pid = gatewayAsked, e.At, e.PID
		text = fmt.Sprintf("pid %d listens on %s; asking for its health", e.PID, readyAt(e, g.info.Spec))
	case gatewaylaunch.EventStarted:
		g.pid = e.PID
		text = fmt.Sprintf("started, pid %d", e.PID)
	case gatewaylaunch.EventOutput:
		text = e.Line
	case gatewaylaunch.EventReady:
		g.state, g.since, g.pid = gatewayListening, e.At, e.PID
		text = fmt.Sprintf("ready: pid %d listens on %s", e.PID, readyAt(e, g.info.Spec))
		if e.State == gatewaylaunch.StateHealthy {
			g.state = gatewayHealthy
			text += " and is healthy"
		}
	case gatewaylaunch.EventHung:
		g.state = gatewayHung
		text = "it listens and accepts nothing"
		if e.Err != nil {
			text = e.Err.Error()
		}
	case gatewaylaunch.EventRecovered:
		g.state = gatewayListening
		if e.State == gatewaylaunch.StateHealthy {
			g.state = gatewayHealthy
		}
		text = "it accepts connections again"
	case gatewaylaunch.EventNotReady:
		g.state, g.since = gatewaySilent, e.At
		text = "nothing listens yet"
		if e.Err != nil {
			text = e.Err.Error()
		}
	case gatewaylaunch.EventExited:
		g.state, g.since, g.exit, g.exited = gatewayExited, e.At, e.Exit, true
		text = exitText(e.Exit) + " after " + short(e.Took)
		if e.Line != "" {
			text += "; it spoke of an address in use, and the kernel knows of none"
		}
	case gatewaylaunch.EventInUse:
		g.why = e.Verdict
		text = "the port was taken"
		if e.Verdict != nil && e.Verdict.Summary != "" {
			text = e.Verdict.Summary
		}
	case gatewaylaunch.EventRetry:
		g.state, g.since, g.retry, g.wait = gatewayRetrying, e.At, e.At.Add(e.Wait), e.Wait
		text = "next attempt within " + short(e.Wait)
	case gatewaylaunch.EventFailed:
		g.state, g.since, g.err = gatewayFailed, e.At, e.Err
		text = "given up"
		if e.Err != nil {
			text += ": " + e.Err.Error()
		}
	case gatewaylaunch.EventStopped:
		g.state, g.since = gatewayStopped, e.At
		text = "stopped"
	}
	g.add(logLine{at: e.At, kind: e.Kind, stream: e.Stream, text: text})
	if !g.relay { // Otherwise it is still about the one that the job replaces.
		m.job.launchEvent(e)
	}
}

// readyAt is the address that a ready gateway listens on.
func readyAt(e gatewaylaunch.Event, asked netstate.BindSpec) string {
	if e.Line != "" {
		return e.Line
	}
	return asked.String()
}

// launchEnded is the end of the launch's events.
func (m *Model) launchEnded(msg launchDoneMsg) {
	g := &m.gateway
	if msg.id != g.id {
		if g.before != nil && g.before.id == msg.id {
			g.before = nil
		}
		return
	}
	if g.starting() || g.state == gatewaySilent {
		g.state, g.since = gatewayExited, m.now
	}
	g.alive = false
	if g.asked && g.state == gatewayExited {
		g.state = gatewayStopped
	}
	if msg.err != nil && g.state != gatewayStopped && g.state != gatewayFailed {
		g.err = msg.err
		g.state = gatewayFailed
	}
	if m.leaving {
		m.quitting = true
		m.emit(effectQuit{})
		return
	}
	if g.relay {
		m.launch()
		return
	}
	m.job.launchEnded(m.now, msg.err)
	m.takeBack(msg.err)
}

func (g *gatewayPage) add(l logLine) {
	g.lines = append(g.lines, l)
	if extra := len(g.lines) - keepLines; extra > 0 {
		g.lines = append(g.lines[:0], g.lines[extra:]...)
		g.scroll.at = max(g.scroll.at-extra, 0)
		g.scroll.top = max(g.scroll.top-extra, 0)
	}
}

func (g *gatewayPage) do(m *Model, a action) {
	if a == actFollow {
		g.follow = !g.follow
		return
	}
	if g.scroll.move(a, len(g.lines), g.page) {
		g.follow = g.scroll.at >= len(g.lines)-1 && (a == actLast || a == actDown || a == actHalfDown)
	}
}

func (g *gatewayPage) settle(m *Model) {
	if m.page != onGateway {
		return
	}
	_, output := g.heights(m)
	g.page = max(output-2, 1)
	if g.follow {
		g.scroll.at = len(g.lines) - 1
	}
	g.scroll.clamp(len(g.lines), g.page)
}

// look is the gateway's state as glyph, words and style.
func (g *gatewayPage) look(m *Model) (glyph, words string, st draw.Style) {
	th := m.th
	switch g.state {
	case gatewayStarting:
		words = "starting"
		if g.number > 0 {
			words = "starting, " + attemptText(g.number, g.of)
		}
		return th.Sym.Running, words, th.Running
	case gatewayHeld:
		return th.Sym.Waiting, "not started: its port is taken", th.Waiting
	case gatewayRetrying:
		return th.Sym.Waiting, attemptText(g.number, g.of) + " refused", th.Waiting
	case gatewaySilent:
		return th.Sym.Warn, "runs, is not ready", th.Warn
	case gatewayAsked:
		return th.Sym.Running, "listening, not healthy yet", th.Running
	case gatewayListening:
		return th.Sym.Started, "listening", th.Free
	case gatewayHealthy:
		return th.Sym.Started, "healthy", th.Free
	case gatewayHung:
		return th.Sym.Warn, "hung: accepts nothing", th.Warn
	case gatewayExited:
		if g.exited {
			return th.Sym.Refused, exitText(g.exit), th.Refused
		}
		return th.Sym.Refused, "exited", th.Refused
	case gatewayFailed:
		return th.Sym.Refused, "failed", th.Refused
	}
	return th.Sym.Stopped, "stopped", th.Faint
}

func exitText(e gatewaylaunch.ExitStatus) string {
	if !e.Known() {
		return "ended"
	}
	if e.Signal != 0 {
		return fmt.Sprintf("ended by signal %d", e.Signal)
	}
	return fmt.Sprintf("exited with status %d", e.Code)
}

// farewell says what becomes of a running gateway when berth quits.
func (g *gatewayPage) farewell() string {
	if !g.alive || g.pid == 0 {
		return ""
	}
	if g.info.Demo {
		return fmt.Sprintf("the demo gateway (pid %d) ended with berth", g.pid)
	}
	s := fmt.Sprintf("the gateway keeps running: pid %d on %s", g.pid, g.info.Spec)
	switch g.state {
	case gatewayListening, gatewayHealthy:
	case gatewaySilent:
		s = fmt.Sprintf("the gateway (pid %d) keeps running, but is not ready on %s", g.pid, g.info.Spec)
	case gatewayHung:
		s = fmt.Sprintf("the gateway (pid %d) keeps running, but accepts nothing on %s", g.pid, g.info.Spec)
	default:
		s = fmt.Sprintf("the gateway (pid %d) was still starting on %s and goes on", g.pid, g.info.Spec)
	}
	if g.info.Log != "" {
		s += ", log " + g.info.Log
	}
	return s
}

// others returns who holds the gateway's port if this berth did not start it.
func (g *gatewayPage) others(m *Model) []netstate.Holder {
	if g.alive || m.shown.Snapshot == nil {
		return nil
	}
	r := m.newRow(&m.shown.Table, g.info.Spec.Port, m.shown.Snapshot.Port(g.info.Spec.Port))
	if r.listen == 0 {
		return nil
	}
	return r.holders(m.shown.Owners)
}

// heights divides the body: the output gets what the facts leave.
func (g *gatewayPage) heights(m *Model) (about, output int) {
	body := m.body()
	about = len(g.facts(m, m.width-2)) + 2
	if m.height < 16 {
		about = 3
	}
	about = min(about, body)
	return about, body - about
}

func (g *gatewayPage) view(m *Model, w, h int) []string {
	about, output := g.heights(m)
	return append(g.about(m, w, about), g.output(m, w, output)...)
}

func (g *gatewayPage) about(m *Model, w, h int) []string {
	th := m.th
	glyph, words, st := g.look(m)
	title := []draw.Span{{Style: th.Strong, Text: "Gateway "}, {Style: st, Text: glyph + " " + words}}
	if g.alive && g.pid != 0 {
		title = append(title, draw.Span{Text: fmt.Sprintf(" · pid %d", g.pid)})
	}
	if g.serving() {
		title = append(title, draw.Span{Text: " · up " + age(m.at().Sub(g.since))})
	}
	box := th.Box(title...)
	if g.found {
		box.Right = []draw.Span{{Style: th.Faint, Text: "started by an earlier berth"}}
	} else if g.number > 0 {
		box.Right = []draw.Span{{Style: th.Faint, Text: attemptText(g.number, g.of)}}
	}
	return box.Draw(w, h, g.facts(m, w-2))
}

// facts draws what is to be known about the gateway, the most urgent first.
func (g *gatewayPage) facts(m *Model, w int) []string {
	th := m.th
	var rows []string
	add := func(l *draw.Line) { rows = append(rows, l.String()) }
	line := func() *draw.Line { return th.Line(w).Gap(1) }
	switch others := g.others(m); {
	case g.waiting():
		add(line().Put(th.Waiting, "next attempt in "+tenths(g.retry, m.at())+", or when the port is free  ").
			Bar(th.Waiting, th.Faint, th.Sym.Bar, fraction(g.retry, m.at(), g.wait), min(30, w-56)))
		if g.why != nil && len(g.why.Holders()) > 0 {
			h := g.why.Holders()[0]
			add(line().Put(th.Warn, who(h)+" ("+from(h, m.opts.User)+") has it: R frees it and starts the gateway"))
		}
	case g.state == gatewayFailed && g.err != nil:
		for _, t := range th.Wrap(g.err.Error(), w-2, 2) {
			add(line().Put(th.Refused, t))
		}
	case len(others) > 0:
		add(line().Put(th.Warn, "not started by this berth: "+who(others[0])+" ("+from(others[0], m.opts.User)+") listens on "+g.info.Spec.String()))
	}
	add(line().Put(th.Strong, command(g.info.Command)))
	where := line().Put(th.Faint, "binds ").Put("", g.info.Spec.String())
	if g.info.Dir != "" {
		where.Put(th.Faint, "  in ").Put("", g.info.Dir)
	}
	add(where)
	if g.info.Note != "" {
		for _, t := range th.Wrap(g.info.Note, w-2, 2) {
			add(line().Put(th.Warn, t))
		}
	}
	switch {
	case g.info.Demo:
		add(line().Put(th.Faint, "the embedded demo: it ends with berth"))
	case g.info.Log != "":
		add(line().Put(th.Faint, "keeps running if you quit · log ").Put("", g.info.Log))
	default:
		add(line().Put(th.Faint, "keeps running if you quit"))
	}
	return rows
}

func (g *gatewayPage) output(m *Model, w, h int) []string {
	th := m.th
	box := th.Box(draw.Span{Style: th.Strong, Text: "Output"})
	if g.follow {
		box.Right = []draw.Span{{Style: th.Faint, Text: "following"}}
	} else if n := len(g.lines); n > 0 {
		box.Right = []draw.Span{{Style: th.Warn, Text: fmt.Sprintf("line %d of %d · f follows", g.scroll.at+1, n)}}
	}
	var rows []string
	if len(g.lines) == 0 {
		rows = append(rows, "", th.Line(w-2).Gap(2).Put(th.Faint, "nothing yet: L launches the gateway, R frees its port first").String())
		rows[0] = th.Line(w - 2).String()
	}
	from, to := g.scroll.visible(len(g.lines), h-2)
	if g.follow { // The run page has another height than this one.
		from, to = max(len(g.lines)-max(h-2, 0), 0), len(g.lines)
	}
	for i := from; i < to; i++ {
		rows = append(rows, g.line(m, i, w-2, !g.follow && i == g.scroll.at))
	}
	return box.Draw(w, h, rows)
}

// line draws one line of the story: output behind a rule, events in words.
func (g *gatewayPage) line(m *Model, i, w int, cursor bool) string {
	th, l := m.th, &g.lines[i]
	row := th.Line(w)
	if cursor {
		row.Put(th.Strong, th.Sym.Cursor)
	}
	row.To(1)
	if w >= 50 {
		row.Put(th.Faint, precise(l.at)).Gap(2)
	}
	if l.kind == gatewaylaunch.EventOutput {
		st := th.Faint
		if l.stream == gatewaylaunch.Stderr {
			st = th.Waiting
		}
		return row.Put(st, th.Sym.Rule).Gap(1).Put("", strings.ReplaceAll(l.text, "\t", "    ")).String()
	}
	glyph, st := th.Sym.None, th.Faint
	switch l.kind {
	case gatewaylaunch.EventAttempt, gatewaylaunch.EventStarted, gatewaylaunch.EventFound, gatewaylaunch.EventListening:
		glyph, st = th.Sym.Running, th.Running
	case gatewaylaunch.EventReady, gatewaylaunch.EventRecovered, lineGood:
		glyph, st = th.Sym.Free, th.Free
	case gatewaylaunch.EventRetry, gatewaylaunch.EventHeld, lineWaits:
		glyph, st = th.Sym.Waiting, th.Waiting
	case gatewaylaunch.EventNotReady, gatewaylaunch.EventHung:
		glyph, st = th.Sym.Warn, th.Warn
	case gatewaylaunch.EventInUse, gatewaylaunch.EventExited, gatewaylaunch.EventFailed, lineBad:
		glyph, st = th.Sym.Refused, th.Refused
	}
	return row.Put(st, glyph+" "+l.text).String()
}

// fraction is how much of total is left until end.
func fraction(end, now time.Time, total time.Duration) float64 {
	if total <= 0 {
		return 0
	}
	return float64(end.Sub(now)) / float64(total)
}
