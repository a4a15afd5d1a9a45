package ui

import (
	"errors"
	"fmt"
	"strings"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/ui/draw"
)

// A hand-over is a job whose port is never free: the gateway is started anew in
// the place of whoever listens there, and gets the very socket. Its dialog is
// one of the others, with an order that can be changed; its page is the run
// page, with the steps in that order.

// takeover is what a hand-over has come to, beyond the steps of its plan.
type takeover struct {
	how     gatewaylaunch.Handover
	kept    stepState
	note    string // of the sockets that are kept
	why     string // the socket is not handed over
	began   bool   // the new server was started
	serving bool   // and listens
	got     []string
}

// overs reports whether there is somebody to take over from.
func (d *dialog) overs() bool {
	return d.kind == dialogHandOver && d.planned && d.err == nil && len(d.plan.Targets()) > 0
}

// order is the one that the dialog offers: the chosen one, if it works here.
func (d *dialog) order() gatewaylaunch.Handover { return d.how.Here(d.support) }

func (d *dialog) swapOrder() {
	if d.how == gatewaylaunch.Queue {
		d.how = gatewaylaunch.Overlap
	} else {
		d.how = gatewaylaunch.Queue
	}
}

// around is what happens before and after the old server is ended.
func (d *dialog) around(m *Model) (before, after []string) {
	if !d.overs() {
		return nil, nil
	}
	return d.order().Around(command(m.gateway.info.Command))
}

// aboutOrder says what the order means, or why there is none.
func (d *dialog) aboutOrder() string {
	if d.kind != dialogHandOver || !d.possible() {
		return ""
	}
	if !d.overs() {
		return "Nobody listens there, so the gateway is only started."
	}
	text := ""
	switch d.order() {
	case gatewaylaunch.Plain:
		return fmt.Sprintf("The socket cannot be handed over here, so clients are refused for a moment: %v.", d.support.Err)
	case gatewaylaunch.Overlap:
		text = "overlap: both run for a moment. If the new one ends before it listens, the old one goes on."
	case gatewaylaunch.Queue:
		text = "queue: the two never run together, as locks, pid files and databases need it."
	}
	if d.support.NoNewPrivs {
		text += " Without root, programs that it starts cannot gain rights (no_new_privs)."
	}
	return text
}

// orderKeys names the key that changes the order. Where a name is to be typed,
// a letter is a part of it.
func (d *dialog) orderKeys() [][2]string {
	if !d.overs() || !d.possible() || d.order() == gatewaylaunch.Plain {
		return nil
	}
	key, other := "o", gatewaylaunch.Overlap
	if d.how == other {
		other = gatewaylaunch.Queue
	}
	if d.wantsName() {
		key = "↑ ↓"
	}
	return [][2]string{{key, string(other)}}
}

// handOver carries out what the dialog has asked about.
func (m *Model) handOver(d *dialog) {
	if !d.overs() {
		m.begin(d.plan, true, d.id)
		return
	}
	j := newJob(m.newID(), d.plan, true)
	j.over = &takeover{how: d.order()}
	if j.over.first() {
		j.phase = phaseLaunch
	}
	m.job, m.page = j, onRun
	m.resume()
	g := &m.gateway
	var before *launchState
	if g.alive {
		was := g.launchState
		before = &was
	}
	m.newLaunch()
	g.before = before
	m.emit(effectHandOver{id: g.id, job: j.id, asked: d.id, how: d.how})
}

// handing reports whether a hand-over is going on.
func (j *job) handing() bool { return j != nil && j.over != nil && j.active() }

// first reports whether the new server is started before the old one is ended.
func (o *takeover) first() bool { return o != nil && o.how == gatewaylaunch.Overlap }

func (o *takeover) launched() bool { return o != nil && o.began }

func (o *takeover) serves() bool { return o != nil && o.serving }

// The kinds of lines that no launch knows, by what came of it.
const (
	lineGood  gatewaylaunch.EventKind = "good"
	lineBad   gatewaylaunch.EventKind = "bad"
	lineWaits gatewaylaunch.EventKind = "waits"
	linePlain gatewaylaunch.EventKind = "plain"
)

// handed takes what a hand-over does, or a bind of the gateway, into the story.
func (m *Model) handed(msg handoverMsg) {
	g, e := &m.gateway, msg.event
	if msg.id != g.id {
		return
	}
	m.passed(e.At)
	if e.Bind != nil {
		g.add(logLine{at: e.At, kind: bindLine(e.Bind), text: e.Bind.Text()})
	}
	j := m.job
	if !j.handing() {
		return
	}
	told := len(j.events)
	j.handed(e)
	if e.Bind != nil {
		return // The exact call is there already.
	}
	for _, l := range j.events[told:] {
		kind := linePlain
		switch {
		case l.bad:
			kind = lineBad
		case l.kind == "exit" || l.kind == "kept" || l.kind == "done":
			kind = lineGood
		}
		g.add(logLine{at: l.at, kind: kind, text: l.text})
	}
}

func bindLine(e *bindnotify.Event) gatewaylaunch.EventKind {
	switch {
	case e.Kind == bindnotify.KindHeld:
		return lineWaits
	case e.How == bindnotify.HowPassed:
		return linePlain
	case e.Errno != 0:
		return lineBad
	}
	return lineGood
}

func (j *job) handed(e gatewaylaunch.RestartEvent) {
	o := j.over
	switch e.Kind {
	case gatewaylaunch.RestartAdopted:
		o.kept, o.note = stepDone, count(e.Count, "socket", "sockets")
		j.log(e.At, "kept", false, count(e.Count, "listening socket is", "listening sockets are")+" kept open")
	case gatewaylaunch.RestartWeaker:
		o.kept, o.how, o.why = stepFailed, e.How, e.Why
		if !o.first() {
			j.phase = phaseFree
		}
		j.log(e.At, "plain", true, "the socket cannot be handed over: "+e.Why)
	case gatewaylaunch.RestartStop:
		j.apply(*e.Stop)
	case gatewaylaunch.RestartBind:
		j.handedBind(e.Bind)
	case gatewaylaunch.RestartDone:
		o.serving = true
		j.log(e.At, "done", false, "the new server serves alone, after "+short(e.Took))
		j.finish(phaseDone, e.At, nil)
	case gatewaylaunch.RestartBoth:
		o.serving = true
		j.finish(phaseFailed, e.At, fmt.Errorf("the new server serves, and the old one beside it: %w", e.Err))
	}
}

func (j *job) handedBind(b *bindnotify.Event) {
	addr := b.Call.Addr.String()
	who := fmt.Sprintf("%s %d", b.Call.Program, b.Call.PID)
	switch {
	case b.Kind == bindnotify.KindHeld:
		why := "it is taken"
		if b.Why != "" {
			why = b.Why
		}
		j.log(b.At, "waits", true, who+" waits for "+addr+": "+why)
	case b.How == bindnotify.HowGiven:
		j.over.got = append(j.over.got, addr)
		j.log(b.At, "socket", false, who+" has got that of "+addr)
	case b.Errno != 0:
		j.log(b.At, string(b.Kind), true, who+" was refused "+addr+": "+netstate.ErrnoName(b.Errno))
	}
}

// overLaunch follows the new server of a hand-over, which is not over when that
// listens. It reports whether there is nothing else to do.
func (j *job) overLaunch(e gatewaylaunch.Event) bool {
	j.over.began = true
	if j.phase == phaseFree {
		j.phase = phaseLaunch
	}
	if e.Kind != gatewaylaunch.EventReady {
		return false
	}
	j.over.serving = true
	j.log(e.At, "ready", false, fmt.Sprintf("pid %d listens on %s", e.PID, readyAt(e, j.plan.Spec)))
	return true
}

// lastWords takes what the old server says while the new one does not run yet;
// later both write to one log, which is read for the new one.
func (m *Model) lastWords(msg launchMsg) {
	g, e := &m.gateway, msg.event
	if g.before == nil || g.before.id != msg.id {
		return
	}
	switch e.Kind {
	case gatewaylaunch.EventOutput:
		if g.pid == 0 {
			g.add(logLine{at: e.At, kind: e.Kind, stream: e.Stream, text: e.Line})
		}
	case gatewaylaunch.EventExited, gatewaylaunch.EventStopped:
		g.before.alive = false
	}
}

// takeBack makes the old server the gateway again, if the new one has ended
// with err and the old one goes on.
func (m *Model) takeBack(err error) {
	g := &m.gateway
	var ended *gatewaylaunch.RestartError
	if g.before != nil && g.before.alive && (!errors.As(err, &ended) || ended.OldServes) {
		g.launchState = *g.before
	}
	g.before = nil
}

// launchText is the step that starts the new server.
func (o *takeover) launchText(command string) string {
	before, after := o.how.Around(command)
	steps := append(before, after...)
	return steps[len(steps)-1]
}

// keepRows draws what becomes of the listening socket.
func (j *job) keepRows(m *Model, w int) []string {
	o := j.over
	if o == nil || o.how == gatewaylaunch.Plain && o.why == "" {
		return nil
	}
	before, _ := gatewaylaunch.Queue.Around("")
	rows := []string{j.stepRow(m, o.kept, before[0], o.note, w)}
	if o.why != "" {
		for _, t := range m.th.Wrap("clients are refused for a moment: "+o.why, w-5, 2) {
			rows = append(rows, m.th.Line(w).Gap(4).Put(m.th.Warn, t).String())
		}
	}
	return rows
}

// gotRows draws which sockets the new server has got.
func (o *takeover) gotRows(m *Model, w int) []string {
	if o == nil || len(o.got) == 0 {
		return nil
	}
	text := "has got the socket of " + strings.Join(o.got, ", ")
	return []string{m.th.Line(w).Gap(4).Put(m.th.Faint, draw.Fit(text, w-5, m.th.ASCII)).String()}
}
