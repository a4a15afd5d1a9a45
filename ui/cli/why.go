package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth/netstate"
	"berth/ui/report"
)

func (a *app) whyCommand() *cobra.Command {
	var (
		b bind
		w where
	)
	cmd := &cobra.Command{
		Use:   "why PORT",
		Short: "Say whether the port can be bound, and if not why, until when, and what helps",
		Long: `Makes the bind that your server would make, closes it again at once without
listening, and explains the answer of the kernel.

The exit status tells the answer: 0 it can be bound, 3 a process holds it,
4 only the kernel holds it (TIME-WAIT: it clears by itself), 5 not permitted,
8 no such address.`,
		Example: `  berth why 18789
  berth why 8080 --host any --reuseaddr=false
  berth why 8080 --reuseport --uid www-data
  berth why 53 --udp --host any
  berth why 8080 --netns all
  berth why 8080 --json --host ::ffff:127.0.0.1 --reuseaddr=1 --reuseport=0 --v6only=0`,
		Args:              onePort,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	b.register(cmd.Flags())
	b.registerUser(cmd.Flags())
	w.register(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := port(args[0])
		if err != nil {
			return err
		}
		// Nothing is changed here, so a signal may end it as it ends any other
		// program; to catch one costs a tenth of all that the answer does.
		ctx := cmd.Context()
		scopes, note, err := w.scopes(ctx)
		if err != nil {
			return err
		}
		specs, err := b.specs(ctx, cmd.Flags(), p, scopes)
		if err != nil {
			return err
		}
		return a.why(ctx, specs, note)
	}
	return cmd
}

// why answers for each of the binds, and its status is that of the first that
// is refused. Of several namespaces, those are passed over in which nothing is
// on the port.
func (a *app) why(ctx context.Context, specs []netstate.BindSpec, note string) error {
	sys, err := netstate.Open()
	if err != nil {
		return err
	}
	defer sys.Close()
	status, told := exitOK, 0
	for _, spec := range specs {
		v, err := sys.Why(ctx, spec)
		if err != nil {
			return err
		}
		if len(specs) > 1 && !spec.NetNS.Own() && len(v.Counts) == 0 {
			continue
		}
		if told++; a.json {
			err = report.Encode(a.Out, report.NewVerdict(&v))
		} else {
			if told > 1 {
				fmt.Fprintln(a.Out)
			}
			err = a.text(a.Out).Verdict(&v)
		}
		if err != nil {
			return err
		}
		if status == exitOK {
			status = statusOfVerdict(&v)
		}
	}
	a.note(note)
	if status != exitOK {
		return &failure{status: status}
	}
	return nil
}

// note says on standard error what the answer leaves out; nothing if it is
// empty.
func (a *app) note(text string) {
	if text != "" {
		fmt.Fprintf(a.Err, "berth: %s\n", a.text(a.Err).Clean(text))
	}
}
