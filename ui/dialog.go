package ui

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/reclaim"
	"berth/ui/draw"
)

// grace is how long a dialog drops keys after its question has appeared: a
// key that was meant for the page under it must not answer it.
const grace = 150 * time.Millisecond

// dialogKind is what a dialog asks.
type dialogKind uint8

const (
	dialogFree dialogKind = iota
	dialogRestart
	dialogHandOver
	dialogKill
	dialogDestroy
	dialogStop
	dialogQuit
	dialogLeave // quit while the gateway serves: keep it, or stop it first
)

// dialog asks before anything is destroyed. Its body is the plan; Cancel has
// the focus; only y, or the other button, goes on.
//
//	┏━ Free 18789 and start the gateway? ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
//	┃ 1  SIGTERM to node 4211                    at most 3.0 s           ┃
//	┃    you · openclaw gateway run --port 18789                         ┃
//	┃    if the port is still held: SIGKILL      at most 2.0 s           ┃
//	┃ 2  probe 127.0.0.1:18789 …                 at most 3.0 s           ┃
//	┃ 3  start openclaw gateway run --port 18789                         ┃
//	┃                                                                    ┃
//	┃ ! 3 connections on this port will be cut off                       ┃
//	┃                                                                    ┃
//	┃                  [ Cancel ]     Free it and start                  ┃
//	┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛
type dialog struct {
	kind dialogKind
	id   int
	req  PlanRequest
	who  string // of dialogKill

	planned bool // plan or err is there
	plan    reclaim.Plan
	err     error

	// The order of a hand-over, and what works of it here.
	how     gatewaylaunch.Handover
	support bindnotify.Support

	slow  bool   // planning takes long enough to say so
	armed bool   // the grace is over
	yes   bool   // the focus is on the button that goes on
	typed string // what was typed where a name is asked for
}

// ask opens a dialog whose body is a plan.
func (m *Model) ask(kind dialogKind, req PlanRequest) {
	if m.busy() {
		m.say("something is running already: wait for it, or stop it first")
		return
	}
	m.dialog = &dialog{kind: kind, id: m.newID(), req: req, how: gatewaylaunch.Queue}
	id := m.dialog.id
	m.emit(effectPlan{id, req})
	m.after(slowAfter, func(at time.Time) tea.Msg { return slowMsg{at, id} })
}

// askKill asks for the end of one holder: the one under the cursor, or the
// only one there is.
func (m *Model) askKill() {
	if m.shown.Snapshot == nil {
		return
	}
	at := m.focusedPlace()
	var hs []netstate.Holder
	if t := m.shown.table(at); t != nil {
		r := m.newRow(t, at.port, t.Snapshot.Port(at.port))
		hs = r.holders(m.shown.Owners)
	}
	var h *netstate.Holder
	switch {
	case len(hs) == 0:
		m.say(fmt.Sprintf("no process that you may see holds port %s", at))
		return
	case m.page == onPort:
		h = m.port.holder()
	case len(hs) == 1:
		h = &hs[0]
	}
	if h == nil {
		m.openPort(at)
		m.say("several processes hold the port: choose one, then x")
		return
	}
	m.ask(dialogKill, PlanRequest{Spec: m.spec(at), Only: h.ID.PID})
	if m.dialog != nil {
		m.dialog.who = who(*h)
	}
}

// askStop asks for the end of the gateway that this berth started.
func (m *Model) askStop() {
	if !m.gateway.alive {
		m.say("no gateway that this berth started is running")
		return
	}
	m.dialog = &dialog{kind: dialogStop, id: m.newID()}
	m.arm()
}

// arm makes the dialog answerable after the grace.
func (m *Model) arm() {
	id := m.dialog.id
	m.dialog.planned = true
	m.after(grace, func(at time.Time) tea.Msg { return armedMsg{at, id} })
}

// planned takes the plan into the dialog that asked for it.
func (m *Model) planned(msg planMsg) {
	if m.dialog == nil || m.dialog.id != msg.id {
		return
	}
	m.dialog.plan, m.dialog.err, m.dialog.support = msg.plan, msg.err, msg.support
	m.arm()
}

// closeDialog cancels: nothing is done, and nobody is held for it.
func (m *Model) closeDialog() {
	if d := m.dialog; d != nil && d.kind != dialogQuit && d.kind != dialogStop {
		m.emit(effectDrop{d.id})
	}
	m.dialog = nil
}

// wantsName reports whether a name has to be typed.
func (d *dialog) wantsName() bool { return d.planned && d.possible() && d.plan.Typed != "" }

// possible reports whether there is a button that goes on at all.
func (d *dialog) possible() bool {
	switch {
	case d.kind == dialogQuit || d.kind == dialogStop || d.kind == dialogLeave:
		return true
	case !d.planned || d.err != nil:
		return false
	case d.kind == dialogHandOver && d.plan.Feasible && len(d.plan.Targets()) == 0:
		return true // it is only a start
	case d.plan.Empty():
		return d.kind == dialogRestart || d.kind == dialogDestroy && d.plan.Feasible && len(d.plan.Steps) > 1
	}
	return d.plan.Feasible
}

// allowed reports whether going on is possible now.
func (d *dialog) allowed() bool {
	return d.possible() && (d.plan.Typed == "" || d.typed == d.plan.Typed)
}

// dialogKey handles a key while a dialog is open.
func (m *Model) dialogKey(msg tea.KeyMsg) {
	d, key := m.dialog, msg.String()
	if !d.armed {
		if !d.planned && key == "esc" {
			m.closeDialog() // It has not asked anything yet.
		}
		return
	}
	switch {
	case key == "esc":
		m.closeDialog()
		return
	case key == "enter":
		if d.yes && d.allowed() {
			m.confirm()
		} else {
			m.closeDialog()
		}
		return
	case key == "tab" || key == "shift+tab" || key == "left" || key == "right":
		d.yes = !d.yes && d.allowed()
		return
	case d.overs() && (key == "up" || key == "down" || key == "o" && !d.wantsName()):
		d.swapOrder()
		return
	case d.wantsName():
		d.edit(msg)
		return
	}
	switch key {
	case "y":
		if d.allowed() {
			m.confirm()
		}
	case "n":
		m.closeDialog()
	case "x":
		if d.kind == dialogLeave {
			m.closeDialog()
			m.gateway.asked, m.leaving = true, true
			m.emit(effectStop{})
		}
	case "h", "l":
		d.yes = !d.yes && d.allowed()
	}
}

// edit changes the typed name. When it is right the focus moves to the
// button: enter then does what the person has just spelt out.
func (d *dialog) edit(msg tea.KeyMsg) {
	switch msg.Type {
	case tea.KeyBackspace:
		_, n := utf8.DecodeLastRuneInString(d.typed)
		d.typed = d.typed[:len(d.typed)-n]
	case tea.KeyCtrlU:
		d.typed = ""
	case tea.KeySpace:
		d.typed += " "
	case tea.KeyRunes:
		d.typed += string(msg.Runes)
	}
	d.yes = d.typed == d.plan.Typed
}

// confirm does what the dialog asked about.
func (m *Model) confirm() {
	d := m.dialog
	m.dialog = nil
	switch d.kind {
	case dialogQuit, dialogLeave:
		m.quitting = true
		m.emit(effectQuit{})
	case dialogStop:
		m.gateway.asked = true
		m.emit(effectStop{})
	case dialogHandOver:
		m.handOver(d)
	default:
		m.begin(d.plan, d.kind == dialogRestart, d.id)
	}
}

// question is the title: what is asked, in the user's words.
func (d *dialog) question(m *Model) string {
	at := placeOf(d.req.Spec)
	switch d.kind {
	case dialogRestart:
		if d.planned && d.err == nil && d.plan.Empty() {
			return fmt.Sprintf("Start the gateway on %s?", at)
		}
		return fmt.Sprintf("Free %s and start the gateway?", at)
	case dialogHandOver:
		if d.planned && d.err == nil && len(d.plan.Targets()) == 0 {
			return fmt.Sprintf("Start the gateway on %s?", at)
		}
		return fmt.Sprintf("Hand %s over to the gateway, started anew?", at)
	case dialogKill:
		return fmt.Sprintf("Stop %s on %s?", d.who, at)
	case dialogDestroy:
		return fmt.Sprintf("Destroy what lingers on %s?", at)
	case dialogStop:
		return "Stop the gateway?"
	case dialogQuit:
		return "Quit now?"
	case dialogLeave:
		return "Quit and keep the gateway running?"
	}
	return fmt.Sprintf("Free %s?", at)
}

// verb is the label of the button that goes on.
func (d *dialog) verb() string {
	switch d.kind {
	case dialogRestart:
		switch {
		case d.plan.Empty():
			return "Start it"
		case len(d.plan.Targets()) > 0:
			return "Stop it and start the gateway"
		}
		return "Free it and start the gateway"
	case dialogHandOver:
		if len(d.plan.Targets()) == 0 {
			return "Start it"
		}
		return "Hand it over"
	case dialogKill, dialogStop:
		return "Stop it"
	case dialogDestroy:
		return "Destroy"
	case dialogQuit:
		return "Quit"
	case dialogLeave:
		return "Quit, keep it"
	}
	if len(d.plan.Targets()) > 0 {
		return "Stop it and free the port"
	}
	return "Free the port"
}

// rows draws the body in w cells. Without details what identifies a holder
// and the empty rows are left out, for a small terminal.
func (d *dialog) rows(m *Model, w int, details bool) (top, bottom []string) {
	th := m.th
	add := func(st draw.Style, glyph, text string, limit int) {
		for i, t := range th.Wrap(text, w-5, limit) {
			l := th.Line(w).Gap(1)
			if i == 0 {
				l.Put(st, glyph)
			}
			top = append(top, l.To(4).Put("", t).String())
		}
	}
	blank := func() {
		if details && len(top) > 0 {
			top = append(top, th.Line(w).String())
		}
	}
	limit := 1
	if details {
		limit = 3
	}
	switch {
	case d.kind == dialogStop:
		add("", "", fmt.Sprintf("SIGTERM to the gateway, pid %d: %s", m.gateway.pid, command(m.gateway.info.Command)), limit)
	case d.kind == dialogLeave:
		add(th.Free, th.Sym.Started, fmt.Sprintf("Pid %d serves on %s and goes on without berth; the next berth finds it again.", m.gateway.pid, m.gateway.info.Spec), limit)
		blank()
		add("", "", "x stops it first, and then quits.", 1)
	case d.kind == dialogQuit && m.job.freeing():
		add(th.Warn, th.Sym.Warn, fmt.Sprintf("Port %s is being freed: %s.", m.job.place(), m.job.done()), limit)
	case d.kind == dialogQuit && m.job.handing():
		add(th.Warn, th.Sym.Warn, fmt.Sprintf("Port %s is being handed over: %s.", m.job.place(), m.job.done()), limit)
	case d.kind == dialogQuit:
		add(th.Warn, th.Sym.Warn, "The gateway is still starting, and nobody would start it again if this attempt is refused.", limit)
	case !d.planned:
		add(th.Waiting, th.Sym.Waiting, fmt.Sprintf("looking at port %s …", placeOf(d.req.Spec)), 1)
	case d.err != nil:
		add(th.Refused, th.Sym.Refused, "no plan could be made: "+d.err.Error(), limit+1)
	default:
		top = append(top, d.steps(m, w, details)...)
		if text := d.aboutOrder(); text != "" {
			blank()
			st, glyph := th.Faint, ""
			if d.order() == gatewaylaunch.Plain {
				st, glyph = th.Warn, th.Sym.Warn
			}
			add(st, glyph, text, limit)
		}
		if len(d.plan.Risks) > 0 {
			blank()
		}
		for _, r := range d.plan.Risks {
			add(th.Warn, th.Sym.Warn, r, limit)
		}
		if len(d.plan.Refused) > 0 {
			blank()
		}
		for _, r := range d.plan.Refused {
			add(th.Refused, th.Sym.Refused, r.Text(), limit)
		}
		if d.wantsName() {
			blank()
			add(th.Warn, th.Sym.Warn, d.plan.TypedWhy+".", limit)
			top = append(top, th.Line(w).Gap(4).Put("", "Type ").Put(th.Strong, d.plan.Typed).Put("", " to go on: ").Put(th.Selected, d.typed+" ").String())
		}
	}
	blank()
	return top, d.buttons(m, w)
}

// steps draws the plan: what happens, how long it takes at most, what it needs.
func (d *dialog) steps(m *Model, w int, details bool) []string {
	th := m.th
	var rows []string
	if d.plan.Empty() && d.kind != dialogRestart && d.kind != dialogHandOver && !d.possible() {
		text := " can be bound: there is nothing to do."
		if d.kind == dialogDestroy {
			text = " can be bound: what lingers is not in the way."
		}
		return []string{th.Line(w).Gap(1).Put(th.Free, th.Sym.Free).To(4).Put("", d.plan.Spec.String()+text).String()}
	}
	n := 0
	row := func(numbered bool, text, bound, needs string) {
		l := th.Line(w).Gap(1)
		if numbered {
			n++
			l.Put(th.Faint, fmt.Sprint(n))
		}
		l.To(4)
		var end []draw.Span
		if needs != "" {
			end = append(end, draw.Span{Style: th.Refused, Text: " needs " + needs + " "})
		} else if bound != "" {
			end = append(end, draw.Span{Style: th.Faint, Text: " at most " + bound + " "})
		}
		tail := draw.SpansWidth(end, th.ASCII)
		if tail > l.Room()/2 {
			rows = append(rows, l.Put("", text).String())
			for _, t := range th.Wrap(strings.TrimSpace(end[0].Text), w-5, 2) {
				rows = append(rows, th.Line(w).Gap(4).Put(end[0].Style, t).String())
			}
			return
		}
		rows = append(rows, l.Put("", draw.Fit(text, l.Room()-tail, th.ASCII)).End(end...).String())
	}
	before, after := d.around(m)
	for _, text := range before {
		row(true, text, "", "")
	}
	if !d.plan.Empty() || d.kind == dialogDestroy || d.overs() {
		for i := range d.plan.Steps {
			s := &d.plan.Steps[i]
			row(s.Kind != reclaim.StepKill && s.Kind != reclaim.StepShutdown, s.Text, short(s.AtMost), s.Needs)
			if details && s.Kind == reclaim.StepTerm {
				about := from(s.Holder, m.opts.User)
				if len(s.Holder.Cmdline) > 0 {
					about += " · " + command(s.Holder.Cmdline)
				}
				if s.Holder.Cwd != "" {
					about += " · in " + s.Holder.Cwd
				}
				rows = append(rows, th.Line(w).Gap(4).Put(th.Faint, about).String())
			}
		}
	}
	for _, text := range after {
		row(true, text, "", "")
	}
	if d.kind == dialogRestart || d.kind == dialogHandOver && !d.overs() {
		info := m.gateway.info
		row(true, "start "+command(info.Command), "", "")
		if details && info.Retries > 0 {
			rows = append(rows, th.Line(w).Gap(4).Put(th.Faint, fmt.Sprintf("if the port is refused: %s, %s apart", count(info.Retries, "retry", "retries"), short(info.Interval))).String())
		}
	}
	return rows
}

// buttons draws the answers, the focused one reversed, and the keys.
func (d *dialog) buttons(m *Model, w int) []string {
	th := m.th
	button := func(text string, focused bool) draw.Span {
		if focused {
			return draw.Span{Style: th.Selected, Text: "[ " + text + " ]"}
		}
		return draw.Span{Text: "[ " + text + " ]"}
	}
	if d.planned && !d.possible() {
		close := button("Close", true)
		return []string{th.Line(w).Gap((w - draw.Width(close.Text)) / 2).Spans(close).String()}
	}
	if !d.planned {
		return []string{th.Line(w).Gap(4).Put(th.Faint, "esc cancels").String()}
	}
	cancel, verb := button("Cancel", !d.yes), button(d.verb(), d.yes)
	if !d.allowed() {
		verb.Style = th.Faint
	}
	if draw.Width(cancel.Text)+3+draw.Width(verb.Text)+2 > w {
		verb.Text = "[ Go ]"
	}
	width := draw.Width(cancel.Text) + 3 + draw.Width(verb.Text)
	rows := []string{th.Line(w).Gap((w - width) / 2).Spans(cancel).Gap(3).Spans(verb).String()}
	keys := [][2]string{{"y", "go"}, {"n esc", "cancel"}, {"tab", "other button"}, {"enter", "the selected one"}}
	if d.wantsName() {
		keys = keys[1:]
		keys[0][0] = "esc"
	}
	keys = append(d.orderKeys(), keys...)
	k := th.Line(w)
	var spans []draw.Span
	for i, e := range keys {
		part := []draw.Span{{Style: th.Strong, Text: e[0]}, {Style: th.Faint, Text: " " + e[1]}}
		if i > 0 {
			part = append([]draw.Span{{Text: "   "}}, part...)
		}
		if draw.SpansWidth(append(append([]draw.Span(nil), spans...), part...), th.ASCII)+2 > w {
			break
		}
		spans = append(spans, part...)
	}
	return append(rows, k.Gap((w-draw.SpansWidth(spans, th.ASCII))/2).Spans(spans...).String())
}

// view draws the dialog over the page, or alone where there is little room.
func (d *dialog) view(m *Model, page []string) []string {
	th := m.th
	w, h := m.width, m.height
	if !d.planned && !d.slow {
		return page
	}
	x := 0
	if w >= 60 {
		x = max((w-86)/2, 2)
	}
	boxW := w - 2*x
	st := th.Warn
	if d.planned && !d.possible() {
		st = th.Faint
	}
	box := th.HeavyBox(st, draw.Span{Style: th.Strong, Text: d.question(m)})
	top, bottom := d.rows(m, boxW-2, true)
	room := h - 2
	if len(top)+len(bottom) > room {
		top, bottom = d.rows(m, boxW-2, false)
	}
	if cut := len(top) + len(bottom) - room; cut > 0 && len(top) > cut {
		keep := len(top) - cut - 1
		top = append(top[:keep:keep], th.Line(boxW-2).Gap(4).Put(th.Warn, fmt.Sprintf("and %d more lines: enlarge the terminal", cut+1)).String())
	}
	rows := box.Draw(boxW, min(len(top)+len(bottom)+2, h), append(top, bottom...))
	return draw.Overlay(m.dim(page), rows, x, max((h-len(rows))/2, 0))
}
