package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/muesli/cancelreader"
	"github.com/spf13/pflag"

	"berth/reclaim"
)

// consent is what the command line says in place of a person.
type consent struct {
	yes  bool
	name string
}

func (c *consent) register(fs *pflag.FlagSet) {
	fs.BoolVar(&c.yes, "yes", false, "do it without asking")
	fs.StringVar(&c.name, "confirm", "", "the process's name, where a plan asks to type it, as for another user's process")
}

// confirm returns nil if the plan, which has been shown, may run. The status
// of a no is that of a guard: nothing is signalled.
func (a *app) confirm(ctx context.Context, plan *reclaim.Plan, c consent) error {
	if plan.Empty() {
		return nil
	}
	if plan.Typed != "" && c.name != "" && c.name != plan.Typed {
		return refusal("", "--confirm %s is not the name of the process, which is %s", c.name, plan.Typed)
	}
	if c.yes && (plan.Typed == "" || c.name == plan.Typed) {
		return nil
	}
	if !isTerminal(a.In) || !isTerminal(a.Err) {
		if plan.Typed != "" {
			return refusal("add --yes --confirm "+plan.Typed, "this must be confirmed by name, because %s", plan.TypedWhy)
		}
		return refusal("add --yes", "this must be confirmed, and there is no terminal to ask on")
	}
	return a.ask(ctx, plan)
}

func refusal(hint, format string, args ...any) error {
	return &failure{status: exitGuard, err: fmt.Errorf(format+"; nothing was signalled", args...), hint: hint}
}

// ask asks the person at the terminal. The empty answer means no.
func (a *app) ask(ctx context.Context, plan *reclaim.Plan) error {
	want := "y"
	if plan.Typed != "" {
		want = plan.Typed
		fmt.Fprintf(a.Err, "type %s to free %s, or nothing to cancel: ", a.text(a.Err).Clean(plan.Typed), plan.Spec)
	} else {
		fmt.Fprintf(a.Err, "free %s? [y/N] ", plan.Spec)
	}
	answer, err := readLine(ctx, a.In)
	if err != nil {
		fmt.Fprintln(a.Err)
		if ctx.Err() != nil {
			return &failure{status: exitInterrupted, err: errors.New("interrupted; nothing was signalled")}
		}
		return refusal("", "no answer (%v)", err)
	}
	if answer == want || want == "y" && strings.EqualFold(answer, "yes") || want == "y" && answer == "Y" {
		return nil
	}
	return refusal("", "not confirmed")
}

// readLine reads one line of a terminal, until ctx ends.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	r, err := cancelreader.NewReader(in)
	if err != nil {
		return "", err
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { r.Cancel() })
	defer stop()
	// One byte at a time, so that nothing beyond the line is taken from
	// whoever reads the terminal next.
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		switch {
		case n == 1 && b[0] == '\n':
			return strings.TrimSpace(string(line)), nil
		case n == 1:
			line = append(line, b[0])
		case err != nil:
			return "", err
		}
	}
}
