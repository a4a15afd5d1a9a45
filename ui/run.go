package ui

import (
	"context"
	"errors"
	"io"

	tea "github.com/charmbracelet/bubbletea"
)

// framesPerSecond bounds how often the terminal is written. Nothing here
// moves more than ten times a second; the rest is for the answer to a key.
const framesPerSecond = 20

// Run runs the program on a terminal until the user quits, and returns what
// to tell then (Model.Farewell). The terminal is restored however it ends:
// by the user, by a panic in Update, View or a command, or because ctx ended,
// which is how the caller passes on signals: bubbletea's own handler misses
// SIGHUP and what comes before it is there, and can wait for itself forever
// when the context ends at the same time. The error is nil after quitting, and
// ctx's cause if ctx ended it.
func Run(ctx context.Context, engine Engine, opts Options, in io.Reader, out io.Writer) (farewell string, err error) {
	m := New(engine, opts)
	defer m.Close()
	p := tea.NewProgram(m,
		tea.WithContext(ctx), tea.WithoutSignalHandler(), tea.WithInput(in), tea.WithOutput(out),
		tea.WithAltScreen(), tea.WithReportFocus(), tea.WithFPS(framesPerSecond))
	_, err = p.Run()
	if err != nil && ctx.Err() != nil && !errors.Is(err, tea.ErrProgramPanic) {
		err = context.Cause(ctx)
	}
	return m.Farewell(), err
}
