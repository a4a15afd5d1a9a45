// Package cli is berth's command line: each verb turns flags into calls of
// netstate, reclaim and gatewaylaunch, and their results into a report and an
// exit status. Nothing is decided here that another program could want too.
//
// The rules of its output:
//
//   - The answer goes to standard output, whether text or --json. What berth
//     says beside the answer goes to standard error, where every line starts
//     with "berth: ".
//   - An error is one sentence: lower case, no period, what, why. What to do
//     about it follows as "berth: hint: ".
//   - Questions are asked on standard error, only of a terminal, and the
//     empty answer means no.
//   - Symbols and colour are decoration. Without a terminal there is no
//     colour, and without a UTF-8 locale there are only ASCII symbols.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	_ "berth/ui/noquery" // keeps every verb from asking the terminal its colour
	"berth/ui/report"
	"berth/ui/theme"
)

// IO is where a run of the command line reads, writes and looks.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	// Environ is the environment as os.Environ gives it.
	Environ []string
}

// Main runs the command line args, without the program's name, and returns
// the exit status. Cancelling ctx interrupts it, and so does a signal that asks
// a program to end.
func Main(ctx context.Context, args []string, std IO) int {
	a := &app{IO: std, args: args}
	// Until the flags are read, the environment decides how errors look.
	a.look, _ = theme.Choose(theme.Wish{}, a.getenv)
	root := a.root(args)
	// A nil slice would make cobra read the arguments of the process.
	root.SetArgs(append([]string{}, args...))
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	err := root.ExecuteContext(ctx)
	return finish(std.Err, a.text(std.Err).Clean, err)
}

// interruptible returns a context that also ends at a signal that asks a
// program to end. The second such signal ends it without more ado, in case the
// first is not heard.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// app is one run of the command line.
type app struct {
	IO
	args []string // as they were given
	common
	look theme.Theme
}

// root is the command that runs args. If they begin with a verb, then no other
// verb is built: none of them could be run, helped with or suggested, and all
// of them together cost more than the answer to a simple question.
func (a *app) root(args []string) *cobra.Command {
	cmd := a.tuiCommand()
	cmd.SilenceUsage = true
	cmd.SilenceErrors = true
	cmd.SuggestionsMinimumDistance = 2
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("see "+cmd.CommandPath()+" --help", "%w", plainFlagError(err))
	})
	a.register(cmd.PersistentFlags())
	cmd.PersistentPreRunE = func(*cobra.Command, []string) (err error) {
		a.look, err = theme.Choose(theme.Wish{Name: a.theme, ASCII: a.ascii, NoColor: a.noColor}, a.getenv)
		if err != nil {
			return usage("", "%w", err)
		}
		a.plain = a.plain || a.getenv("ACCESSIBLE") != ""
		return nil
	}
	chosen := verbs
	if len(args) > 0 && slices.Contains(verbs, args[0]) {
		chosen = args[:1]
		cmd.CompletionOptions.DisableDefaultCmd = true // "completion" is one more verb
	}
	for _, name := range chosen {
		cmd.AddCommand(a.verb(name))
	}
	return cmd
}

var verbs = []string{"list", "why", "free", "wait", "run", "restart", "demo", "version"}

func (a *app) verb(name string) *cobra.Command {
	switch name {
	case "list":
		return a.listCommand()
	case "why":
		return a.whyCommand()
	case "free":
		return a.freeCommand()
	case "wait":
		return a.waitCommand()
	case "run":
		return a.runCommand()
	case "restart":
		return a.restartCommand()
	case "demo":
		return a.demoCommand()
	case "version":
		return a.versionCommand()
	}
	panic("no verb is called " + name)
}

// getenv looks in the environment that was given, not in the process's own.
func (a *app) getenv(name string) string {
	for _, e := range slices.Backward(a.Environ) {
		if n, value, ok := strings.Cut(e, "="); ok && n == name {
			return value
		}
	}
	return ""
}

// text is a writer of reports for people.
func (a *app) text(w io.Writer) *report.Text {
	return &report.Text{W: w, ASCII: a.look.ASCII, Color: a.colored(w), UID: os.Getuid()}
}

// colored follows no-color.org and the habits around CLICOLOR_FORCE.
func (a *app) colored(w io.Writer) bool {
	switch {
	case a.noColor || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb":
		return false
	case a.getenv("CLICOLOR_FORCE") != "" && a.getenv("CLICOLOR_FORCE") != "0":
		return true
	}
	return isTerminal(w)
}

// isTerminal reports whether a reader or writer is a terminal.
func isTerminal(rw any) bool {
	f, ok := rw.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(f.Fd())
}
