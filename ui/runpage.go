package ui

import (
	"fmt"
	"strings"
	"time"

	"berth/netstate"
	"berth/reclaim"
	"berth/ui/draw"
)

// The run page shows a job while it goes on and after it has ended: what is
// done and what is left, the port meanwhile, and the events with their times.
//
//	╭─ Force-restart 18789 ──────────────────────────────────── 2.1 s ───╮
//	│ ✓ SIGTERM to node 4211                 exited after 420 ms         │
//	│ ▸ probe 127.0.0.1:18789 until it can be bound                      │
//	│   ✗ ✗ ✗ ✗ ✗ ◔   6 binds                                           │
//	│   ███████████████▌░░░░░░░░░░░░░░░   1.8 s left of 3.0 s            │
//	│   refused by TIME-WAIT 127.0.0.1:18789 → 127.0.0.1:5432, 1.2 s     │
//	│ · start openclaw gateway run --port 18789                          │
//	╰────────────────────────────────────────────────────────────────────╯
//	╭─ Port 18789 ───────────────────────────────────────────────────────╮
//	│ LISTEN     ●━━━━━━━━━━━━━━━━●                               0      │
//	│ …                                                                  │
//	╰────────────────────────────────────────────────────────────────────╯
//	╭─ Events ─────────────────────────╮╭─ Gateway ──────────────────────╮

func (j *job) view(m *Model, w, h int) []string {
	steps := j.stepRows(m, w-2)
	// The port's picture is the page: the steps may take what is left of it.
	picture := 6 // four lines and a frame
	switch {
	case h < 12:
		picture = 0
	case h >= 26:
		picture = 11
	case h >= 18:
		picture = 7
	}
	stepsH := min(len(steps)+2, max(h-picture, 5), h)
	if stepsH+picture > h {
		picture = max(h-stepsH, 0)
	}
	rest := h - stepsH - picture
	if rest < 4 && picture > 0 {
		picture += rest
		rest = 0
	}
	rows := j.stepsBox(m, steps, w, stepsH)
	if picture >= 3 {
		rows = append(rows, j.portBox(m, w, picture)...)
	}
	switch {
	case rest > 0 && j.launched() && m.wide():
		left := 44
		rows = append(rows, draw.Beside(j.eventsBox(m, left, rest), m.gateway.output(m, w-left, rest))...)
	case rest > 0 && j.launched():
		rows = append(rows, m.gateway.output(m, w, rest)...)
	case rest > 0:
		rows = append(rows, j.eventsBox(m, w, rest)...)
	}
	return draw.Fill(rows, w, h)
}

// launched reports whether the gateway was started, or was tried to.
func (j *job) launched() bool {
	switch j.phase {
	case phaseLaunch, phaseDone:
		return j.restart
	case phaseFailed:
		return j.restart && (!j.freed.IsZero() || len(j.steps) == 0 || j.over.launched())
	}
	return false
}

// title says what the job is, and how it ended.
func (j *job) title() string {
	if j.over != nil {
		return fmt.Sprintf("Hand-over %s (%s)", j.place(), j.over.how)
	}
	if j.restart {
		return fmt.Sprintf("Force-restart %s", j.place())
	}
	return fmt.Sprintf("Reclaim %s", j.place())
}

func (j *job) stepsBox(m *Model, rows []string, w, h int) []string {
	th := m.th
	box := th.Box(draw.Span{Style: th.Strong, Text: j.title()})
	switch j.phase {
	case phaseDone:
		box.Style = th.Free
		box.Right = []draw.Span{{Style: th.Free, Text: th.Sym.Free + " done in " + short(j.ended.Sub(j.started))}}
	case phaseFailed:
		box.Style = th.Refused
		box.Right = []draw.Span{{Style: th.Refused, Text: th.Sym.Refused + " failed after " + short(j.ended.Sub(j.started))}}
	case phaseStopped:
		box.Style = th.Warn
		box.Right = []draw.Span{{Style: th.Warn, Text: "stopped by you"}}
	default:
		box.Right = []draw.Span{{Style: th.Strong, Text: fmt.Sprintf("%.1f s", max(0, m.at().Sub(j.since(m.at())).Seconds()))}}
	}
	if room := h - 2; len(rows) > room && room > 0 {
		// What is going on now is nearer to the end than to the beginning.
		rows = rows[len(rows)-room:]
	}
	return box.Draw(w, h, rows)
}

// stepRows draws the steps, with what is to be said about the current one
// under it, and the outcome at the end.
func (j *job) stepRows(m *Model, w int) []string {
	th := m.th
	rows := j.keepRows(m, w)
	if j.over.first() {
		rows = append(rows, j.launchRows(m, w)...)
	}
	for i := range j.steps {
		s := &j.steps[i]
		if s.state == stepSkipped && w < 78 {
			continue
		}
		rows = append(rows, j.stepRow(m, s.state, s.Text, s.note, w))
		if s.state == stepRunning {
			rows = append(rows, j.progress(m, s, w)...)
		}
	}
	if j.restart && !j.over.first() {
		rows = append(rows, j.launchRows(m, w)...)
	}
	add := func(st draw.Style, text string) {
		for _, t := range th.Wrap(text, w-4, 2) {
			rows = append(rows, th.Line(w).Gap(3).Put(st, t).String())
		}
	}
	switch j.phase {
	case phaseFailed:
		add(th.Refused, j.err.Error())
	case phaseStopped:
		add(th.Warn, "You stopped waiting: "+j.done()+".")
	case phaseDone:
		switch {
		case j.restart:
		case j.freed.IsZero(): // The plan was about one holder among others.
			add(th.Warn, j.plan.Spec.String()+" was not tried: others hold it too.")
		default:
			add(th.Free, j.plan.Spec.String()+" can be bound now.")
		}
	}
	return rows
}

func (j *job) stepRow(m *Model, state stepState, text, note string, w int) string {
	th := m.th
	glyph, gs, ts := th.Sym.None, th.Faint, th.Faint
	switch state {
	case stepRunning:
		glyph, gs, ts = th.Sym.Running, th.Running, th.Strong
	case stepDone:
		glyph, gs, ts = th.Sym.Free, th.Free, ""
	case stepFailed:
		glyph, gs, ts = th.Sym.Refused, th.Refused, th.Refused
	}
	l := th.Line(w).Gap(1).Put(gs, glyph).To(4)
	if draw.Width(draw.Fit(text, w, th.ASCII))+draw.Width(note)+8 > w {
		// The outcome of a step says more than the end of its text.
		l.Put(ts, draw.Fit(text, w-draw.Width(note)-8, th.ASCII))
	} else {
		l.Put(ts, text)
	}
	return l.End(draw.Span{Style: th.Faint, Text: note + " "}).String()
}

// progress draws what a running step is doing and how long it may take.
func (j *job) progress(m *Model, s *jobStep, w int) []string {
	th := m.th
	now := m.at()
	bar := func(end time.Time, total time.Duration, after string) string {
		left := max(end.Sub(now), 0)
		text := fmt.Sprintf("%.1f s left of %.1f s", left.Seconds(), total.Seconds()) + after
		l := th.Line(w).Gap(4)
		cells := min(40, max(w-5-len(text)-3, 8))
		return l.Bar(th.Waiting, th.Faint, th.Sym.Bar, fraction(end, now, total), cells).Gap(2).Put("", text).String()
	}
	switch s.Kind {
	case reclaim.StepTerm:
		after := ", then SIGKILL"
		if j.plan.Policy.NoKill {
			after = ""
		}
		return []string{bar(s.since.Add(s.AtMost), s.AtMost, after)}
	case reclaim.StepKill, reclaim.StepWatch:
		return []string{bar(s.since.Add(s.AtMost), s.AtMost, "")}
	case reclaim.StepWait:
		rows := []string{j.marks(m, w)}
		if !j.deadline.IsZero() {
			rows = append(rows, bar(j.deadline, s.AtMost, ""))
		}
		if v := j.refusal; v != nil && !v.Bindable {
			rows = append(rows, j.refusedBy(m, v, w))
		}
		return rows
	}
	return nil
}

// marks draws each real bind as it answered, the newest at the end.
func (j *job) marks(m *Model, w int) string {
	th := m.th
	tail := count(j.probed, "bind", "binds")
	l := th.Line(w).Gap(4)
	room := max((w-6-len(tail)-4)/2, 1)
	from := max(len(j.probes)-room, 0)
	for _, ok := range j.probes[from:] {
		if ok {
			l.Put(th.Free, th.Sym.MarkFree)
		} else {
			l.Put(th.Refused, th.Sym.MarkRefused)
		}
		l.Gap(1)
	}
	return l.Put(th.Waiting, th.Sym.Waiting).Gap(2).Put(th.Faint, tail).String()
}

// refusedBy names what refuses the bind now, and until when.
func (j *job) refusedBy(m *Model, v *netstate.Verdict, w int) string {
	th := m.th
	l := th.Line(w).Gap(4).Put(th.Faint, "refused by ")
	if len(v.Blockers) == 0 {
		return l.Put("", v.Summary).String()
	}
	// Of several, the one that ends last decides.
	b := &v.Blockers[0]
	for i := range v.Blockers {
		if v.Blockers[i].Clears.From.After(b.Clears.From) {
			b = &v.Blockers[i]
		}
	}
	end := draw.Span{Style: th.Faint, Text: " until its process ends "}
	if b.Clears.Known() {
		end = draw.Span{Style: th.Waiting, Text: " " + tenths(b.Clears.From, m.at()) + " "}
	} else if !b.Socket.Owned() {
		end.Text = " no fixed end "
	}
	text := blockerText(b)
	if n := len(v.Blockers) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return l.Put("", draw.Fit(text, l.Room()-draw.Width(end.Text), th.ASCII)).End(end).String()
}

// launchRows draws the last step of a restart.
func (j *job) launchRows(m *Model, w int) []string {
	th, g := m.th, &m.gateway
	text := "start " + command(g.info.Command)
	if j.over != nil {
		text = j.over.launchText(command(g.info.Command))
	}
	switch {
	case j.over.serves():
		return append([]string{j.stepRow(m, stepDone, text, fmt.Sprintf("pid %d listens", g.pid), w)}, j.over.gotRows(m, w)...)
	case j.phase == phaseDone:
		return []string{j.stepRow(m, stepDone, text, fmt.Sprintf("pid %d listens", g.pid), w)}
	case !j.launched():
		return []string{j.stepRow(m, stepPending, text, "", w)}
	case j.phase == phaseFailed:
		return []string{j.stepRow(m, stepFailed, text, "", w)}
	}
	note := ""
	if g.number > 0 {
		note = attemptText(g.number, g.of)
	}
	if g.relay {
		note = "once the old one is gone"
	}
	rows := []string{j.stepRow(m, stepRunning, text, note, w)}
	l := th.Line(w).Gap(4)
	switch {
	case g.relay:
		return rows
	case g.waiting():
		l.Put(th.Waiting, "refused: next attempt in "+tenths(g.retry, m.at())+"  ").
			Bar(th.Waiting, th.Faint, th.Sym.Bar, fraction(g.retry, m.at(), g.wait), min(24, l.Room()-2))
	case g.state == gatewayAsked:
		l.Put(th.Faint, fmt.Sprintf("pid %d listens, and is asked for its health", g.pid))
	case g.pid != 0:
		l.Put(th.Faint, fmt.Sprintf("pid %d, waiting until it listens", g.pid))
	default:
		return rows
	}
	return append(append(rows, l.String()), j.over.gotRows(m, w)...)
}

// portBox draws the port while the job runs: its last seconds over one axis,
// and under them the countdowns of what lingers.
func (j *job) portBox(m *Model, w, h int) []string {
	th := m.th
	in := w - 2
	title := []draw.Span{{Style: th.Strong, Text: fmt.Sprintf("Port %s", j.place())}}
	box := th.Box(title...)
	// The window doubles when it is full, so that the picture grows to the
	// right and is redrawn at another scale only now and then.
	total, start := 6*time.Second, j.since(m.at())
	for total < m.at().Sub(start)+time.Second && total < 96*time.Second {
		total *= 2
	}
	cols := max(in-2-stripLabel-stripValue, 4)
	s := strip{track: m.past.of(j.place().id()), from: start.Add(-time.Second), step: total / time.Duration(cols), cols: cols, now: m.at(), zero: start}
	if over := m.at().Sub(s.from) - total; over > 0 {
		s.from = s.from.Add(over)
	}
	body := s.rows(th, in)
	if h-2 > len(body) {
		body = append(body, s.axis(th, in))
	}
	if room := h - 2 - len(body); room > 0 && j.live.waiting {
		for i := range min(room, len(j.live.list)) {
			body = append(body, j.live.socket(m, i, in, false))
		}
		if more := len(j.live.list) - room; more > 0 && room > 1 {
			body[len(body)-1] = th.Line(in).Gap(3).Put(th.Faint, fmt.Sprintf("and %d more TIME-WAIT sockets", more+1)).String()
		}
	}
	return box.Draw(w, h, body)
}

func (j *job) eventsBox(m *Model, w, h int) []string {
	th := m.th
	box := th.Box(draw.Span{Style: th.Strong, Text: "Events"})
	in, room := w-2, h-2
	// Equal answers of consecutive probes are one line with a count: what
	// changes must not be pushed off the screen by what repeats.
	type line struct {
		jobEvent
		times int
	}
	var lines []line
	for _, e := range j.events {
		if n := len(lines); n > 0 && e.kind == "probe" && lines[n-1].kind == "probe" && lines[n-1].text == e.text {
			lines[n-1].times++
			lines[n-1].at = e.at
			continue
		}
		lines = append(lines, line{e, 1})
	}
	var body []string
	for _, e := range lines[max(len(lines)-max(room, 0), 0):] {
		st := draw.Style("")
		if e.bad {
			st = th.Refused
		}
		if e.kind == "free" || e.kind == "ready" {
			st = th.Free
		}
		kind := e.kind
		if e.times > 1 {
			kind = fmt.Sprintf("%s ×%d", e.kind, e.times)
		}
		l := th.Line(in).Gap(1)
		if in >= 44 {
			l.Put(th.Faint, precise(e.at)).Gap(1)
		}
		body = append(body, l.Col(st, kind, 10).Put("", strings.TrimPrefix(e.text, j.plan.Spec.String()+" ")).String())
	}
	return box.Draw(w, h, body)
}
