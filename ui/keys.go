package ui

import "strings"

// action is what a key asks for. Keys, footer and help come from the one
// table below, so that none of the three can promise what another forgot.
type action uint8

const (
	actNone action = iota
	actUp
	actDown
	actFirst
	actLast
	actHalfUp
	actHalfDown
	actOpen
	actBack
	actPane
	actTab
	actPorts
	actGateway
	actReclaim
	actRestart
	actHandOver
	actKill
	actDestroy
	actStop
	actLaunch
	actFilter
	actSort
	actAll
	actNamespaces
	actPause
	actFollow
	actHelp
	actQuit
)

// pages is a set of pages.
type pages uint8

const (
	onPorts pages = 1 << iota
	onPort
	onRun
	onGateway
	everywhere = onPorts | onPort | onRun | onGateway
)

// group is the column of the help overlay that a binding stands in.
type group uint8

const (
	groupMove group = iota
	groupLook
	groupAct
)

// binding is one row of the key table. An ellipsis in help and foot says that
// a dialog asks before anything happens: every key that destroys has one.
type binding struct {
	act   action
	keys  []string // as bubbletea spells them
	show  string   // as help and footer spell them
	help  string
	foot  string // empty: not in the footer
	on    pages
	group group
	right bool // at the right end of the footer
}

// table is ordered as the footer is: what comes first survives on a narrow
// terminal.
var table = []binding{
	{act: actOpen, keys: []string{"enter"}, show: "enter", help: "why? the port's page", foot: "why", on: onPorts, group: groupLook},
	{act: actReclaim, keys: []string{"r"}, show: "r", help: "reclaim the port…", foot: "reclaim…", on: onPorts | onPort, group: groupAct},
	{act: actRestart, keys: []string{"R"}, show: "R", help: "force-restart the gateway…", foot: "force-restart…", on: everywhere, group: groupAct},
	{act: actKill, keys: []string{"x"}, show: "x", help: "kill one holder…", foot: "kill…", on: onPorts | onPort, group: groupAct},
	{act: actStop, keys: []string{"x"}, show: "x", help: "stop the gateway…", foot: "stop…", on: onGateway, group: groupAct},
	{act: actHandOver, keys: []string{"H"}, show: "H", help: "hand the socket over…", foot: "hand over…", on: everywhere, group: groupAct},
	{act: actDestroy, keys: []string{"d"}, show: "d", help: "destroy TIME-WAIT sockets…", foot: "destroy…", on: onPort, group: groupAct},
	{act: actLaunch, keys: []string{"L"}, show: "L", help: "launch the gateway", foot: "launch", on: onPorts | onPort | onGateway, group: groupAct},
	{act: actFollow, keys: []string{"f"}, show: "f", help: "follow the output", foot: "follow", on: onGateway, group: groupLook},
	{act: actFilter, keys: []string{"/"}, show: "/", help: "filter: name, port, state, user, pid, netns", foot: "filter", on: onPorts, group: groupLook},
	{act: actSort, keys: []string{"s"}, show: "s", help: "next sort order", foot: "sort", on: onPorts, group: groupLook},
	{act: actAll, keys: []string{"A"}, show: "A", help: "also clients' ephemeral ports", foot: "all", on: onPorts, group: groupLook},
	{act: actNamespaces, keys: []string{"n"}, show: "n", help: "all namespaces", foot: "namespaces", on: onPorts, group: groupLook},
	{act: actPane, keys: []string{"tab", "shift+tab"}, show: "tab", help: "next pane", foot: "pane", on: onPort, group: groupMove},
	{act: actTab, keys: []string{"tab", "shift+tab"}, show: "tab", help: "the other tab", on: onPorts | onGateway, group: groupMove},
	{act: actPause, keys: []string{"p"}, show: "p", help: "pause the screen", foot: "pause", on: everywhere, group: groupLook},

	{act: actUp, keys: []string{"up", "k"}, show: "↑ k", help: "up", on: everywhere, group: groupMove},
	{act: actDown, keys: []string{"down", "j"}, show: "↓ j", help: "down", on: everywhere, group: groupMove},
	{act: actFirst, keys: []string{"g", "home"}, show: "g", help: "first", on: everywhere, group: groupMove},
	{act: actLast, keys: []string{"G", "end"}, show: "G", help: "last", on: everywhere, group: groupMove},
	{act: actHalfUp, keys: []string{"ctrl+u", "pgup"}, show: "^u pgup", help: "half a page up", on: everywhere, group: groupMove},
	{act: actHalfDown, keys: []string{"ctrl+d", "pgdown"}, show: "^d pgdn", help: "half a page down", on: everywhere, group: groupMove},
	{act: actPorts, keys: []string{"1"}, show: "1", help: "ports", on: everywhere, group: groupMove},
	{act: actGateway, keys: []string{"2"}, show: "2", help: "gateway", on: everywhere, group: groupMove},

	{act: actHelp, keys: []string{"?"}, show: "?", help: "this help", foot: "help", on: everywhere, group: groupLook, right: true},
	{act: actBack, keys: []string{"esc"}, show: "esc", help: "back; clear the filter", foot: "back", on: onPort | onGateway, group: groupMove, right: true},
	{act: actBack, keys: []string{"esc"}, show: "esc", help: "stop waiting; then back", foot: "stop waiting", on: onRun, group: groupMove, right: true},
	{act: actBack, keys: []string{"esc"}, show: "esc", help: "clear the filter", on: onPorts, group: groupMove},
	{act: actQuit, keys: []string{"q", "ctrl+c"}, show: "q", help: "quit", foot: "quit", on: everywhere, group: groupMove, right: true},
}

// lookup returns the action of a key on a page.
func lookup(key string, on pages) action {
	for i := range table {
		if table[i].on&on == 0 {
			continue
		}
		for _, k := range table[i].keys {
			if k == key {
				return table[i].act
			}
		}
	}
	return actNone
}

// destroys reports whether an action can end a process, a socket or the
// gateway. Such an action only ever opens a dialog.
func (a action) destroys() bool {
	switch a {
	case actReclaim, actRestart, actHandOver, actKill, actStop, actDestroy:
		return true
	}
	return false
}

// asks reports whether the binding's texts promise a dialog.
func (b *binding) asks() bool { return strings.HasSuffix(b.help, "…") }
