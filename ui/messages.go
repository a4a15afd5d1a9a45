package ui

import (
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/reclaim"
)

// The messages of the program. Those from outside carry the time at which
// they happened: the newest of these times is the only clock that Update and
// View know.

// observationMsg is a reading of the machine; ended is set instead when the
// engine has closed its channel.
type observationMsg struct {
	obs   Observation
	ended bool
}

// tickMsg redraws what moves. A tick of an older generation belongs to a rate
// that is no longer wanted and ends its chain.
type tickMsg struct {
	at  time.Time
	gen int
}

// slowMsg arrives when something has taken so long that the screen should say
// that it is being waited for.
type slowMsg struct {
	at time.Time
	id int
}

// armedMsg ends the time in which a dialog drops keys.
type armedMsg struct {
	at time.Time
	id int
}

// planMsg is the answer to effectPlan with the same id.
type planMsg struct {
	id   int
	plan reclaim.Plan
	err  error
	// support is what works here of a hand-over.
	support bindnotify.Support
}

// runMsg and runDoneMsg come from the reclaim with the same id, in order.
type runMsg struct {
	id    int
	event reclaim.Event
}

type runDoneMsg struct {
	id  int
	err error
}

// launchMsg and launchDoneMsg come from the launch with the same id, in order.
type launchMsg struct {
	id    int
	event gatewaylaunch.Event
}

type launchDoneMsg struct {
	id  int
	err error
}

// handoverMsg is what else than a launch's event comes from the launch with
// the same id: what a hand-over does, and the binds of the gateway.
type handoverMsg struct {
	id    int
	event gatewaylaunch.RestartEvent
}

// launchMsgOf is the message of one event of a launch.
func launchMsgOf(id int, ev gatewaylaunch.RestartEvent) tea.Msg {
	if ev.Launch != nil {
		return launchMsg{id, *ev.Launch}
	}
	return handoverMsg{id, ev}
}

// stoppedMsg is the answer to effectStop.
type stoppedMsg struct{ err error }

// streamedMsg carries one message of a stream and the command that waits for
// the next.
type streamedMsg struct {
	msg  tea.Msg
	next tea.Cmd
}
