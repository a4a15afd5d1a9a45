// Package noquery keeps bubbletea from questioning the terminal at start-up.
//
// Import it for its effect in the package that imports bubbletea:
//
//	import (
//		tea "github.com/charmbracelet/bubbletea"
//
//		_ "berth/ui/noquery"
//	)
//
// # The trap
//
// Bubbletea v1 calls lipgloss.HasDarkBackground in an init function. That
// writes OSC 11 and a cursor position request to the terminal and waits for
// the answer, at most five seconds, in every program that links bubbletea and
// before main has looked at its arguments: "berth version" too. Terminals
// that nobody sits at (a CI job's, a git hook's, expect's) do not answer.
// Upstream does not plan to change v1:
// https://github.com/charmbracelet/bubbletea/issues/1771.
//
// # The cure
//
// When the answer is already given, lipgloss does not ask. It has to be given
// before bubbletea's init runs, and Go fixes that order: of the packages whose
// imports are initialized, the one with the smallest import path is next
// (https://go.dev/ref/spec#Program_initialization). This package imports
// lipgloss alone, which bubbletea imports too, and its path sorts before
// "github.com/charmbracelet/bubbletea"; so it is initialized first. Both
// halves matter: the module's name must not sort later, and nothing may be
// imported here that bubbletea does not need.
//
// # What it costs
//
// Whether the background is light or dark is not known afterwards: lipgloss
// always answers "dark". Berth therefore uses the sixteen ANSI colours, which
// the person's own terminal theme makes legible, and no adaptive colours.
package noquery

import "github.com/charmbracelet/lipgloss"

func init() {
	lipgloss.SetHasDarkBackground(true)
}
