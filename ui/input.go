package ui

import (
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// keys splits what arrived in one read: text that is typed fast, or over a
// slow line, is one message of several runes, and each is a key. A paste is
// text and never a command.
func (m *Model) keys(msg tea.KeyMsg) {
	if msg.Type != tea.KeyRunes || len(msg.Runes) == 1 && !msg.Paste {
		m.key(msg)
		return
	}
	if msg.Paste && !m.typing() {
		return
	}
	for _, r := range msg.Runes {
		m.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}, Alt: msg.Alt})
	}
}

// typing reports whether letters are text at the moment.
func (m *Model) typing() bool {
	if m.dialog != nil {
		return m.dialog.wantsName()
	}
	return m.ports.editing && !m.help.open
}

func (m *Model) key(msg tea.KeyMsg) {
	key := msg.String()
	switch {
	case m.quitting:
		return
	case key == "ctrl+c":
		m.quit(true)
		return
	case m.dialog != nil:
		m.dialogKey(msg)
		return
	case m.help.open:
		m.help.key(m, key)
		return
	case m.ports.editing:
		m.ports.editKey(m, msg)
		return
	}
	m.do(lookup(key, m.page))
}

// do carries out an action on the page that is open.
func (m *Model) do(a action) {
	info := m.gateway.info
	switch a {
	case actHelp:
		m.help = helpPage{open: true}
	case actQuit:
		m.quit(false)
	case actPause:
		m.pause()
	case actPorts, actGateway:
		m.tab(a)
	case actTab:
		if m.page == onPorts {
			m.tab(actGateway)
		} else {
			m.tab(actPorts)
		}
	case actRestart:
		m.ask(dialogRestart, PlanRequest{Spec: info.Spec, Restart: true})
	case actHandOver:
		m.ask(dialogHandOver, PlanRequest{Spec: info.Spec, HandOver: true})
	case actReclaim:
		if at := m.focusedPlace(); at.port != 0 {
			m.ask(dialogFree, PlanRequest{Spec: m.spec(at)})
		}
	case actDestroy:
		m.ask(dialogDestroy, PlanRequest{Spec: m.spec(m.port.place), Destroy: true})
	case actKill:
		m.askKill()
	case actStop:
		m.askStop()
	case actLaunch:
		m.launchKey()
	case actBack:
		m.back()
	default:
		switch m.page {
		case onPorts:
			m.ports.do(m, a)
		case onPort:
			m.port.do(m, a)
		case onGateway:
			m.gateway.do(m, a)
		}
	}
}

// focusedPlace is the port that a key like r is about, 0 if there is none.
func (m *Model) focusedPlace() place {
	if m.page == onPort {
		return m.port.place
	}
	if r := m.ports.row(); r != nil {
		return r.place
	}
	return place{}
}

// widen switches between the ports of all network namespaces and those of the
// one that this berth was started to look at.
func (m *Model) widen() {
	switch {
	case !m.reach.All:
		m.reach = Reach{All: true}
	case m.opts.Reach.All:
		m.reach = Reach{}
	default:
		m.reach = m.opts.Reach
	}
	m.ports.build(m)
}

func (m *Model) pause() {
	if m.pausedAt.IsZero() {
		m.pausedAt = m.now
		return
	}
	m.resume()
}

func (m *Model) resume() {
	m.pausedAt = time.Time{}
	m.show()
}

// tab opens one of the two pages that are always there. A run that still
// frees the port keeps its page: it takes seconds, and esc ends it.
func (m *Model) tab(a action) {
	if m.job.freeing() {
		m.say("a run is going on: esc stops waiting")
		return
	}
	m.page = onPorts
	if a == actGateway {
		m.page = onGateway
	}
}

func (m *Model) openPort(at place) {
	m.port = portPage{place: at}
	m.page = onPort
	if m.shown.Snapshot != nil {
		m.port.build(m)
	}
}

func (m *Model) back() {
	switch m.page {
	case onPorts:
		m.ports.setFilter(m, "")
	case onPort, onGateway:
		m.page = onPorts
	case onRun:
		if m.job.freeing() { // A hand-over can be stopped only before the new server runs.
			m.job.stopping = true
			m.emit(effectCancel{m.job.id})
			return
		}
		m.openPort(m.job.place())
	}
}

// quit ends the program, after one question if something would be left half
// done, or if the gateway serves and can stay or not. A second ctrl+c needs no answer.
func (m *Model) quit(ctrlC bool) {
	kind := dialogQuit
	switch {
	case ctrlC && m.dialog != nil && (m.dialog.kind == dialogQuit || m.dialog.kind == dialogLeave),
		!m.busy() && (!m.gateway.serving() || m.gateway.info.Demo):
		m.quitting = true
		m.emit(effectQuit{})
		return
	case !m.busy():
		kind = dialogLeave
	}
	m.help.open = false
	m.closeDialog()
	m.dialog = &dialog{kind: kind, id: m.newID()}
	m.arm()
}

// busy reports whether quitting now would break something off.
func (m *Model) busy() bool {
	return m.job.freeing() || m.job.handing() || m.gateway.starting() || m.gateway.relay
}
