package cli

import (
	"context"

	"github.com/spf13/cobra"

	"berth/netstate"
	"berth/ui/report"
)

func (a *app) whyCommand() *cobra.Command {
	var b bind
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
  berth why 8080 --json --host ::ffff:127.0.0.1 --reuseaddr=1 --reuseport=0 --v6only=0`,
		Args:              onePort,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	b.register(cmd.Flags())
	b.registerUser(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := port(args[0])
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		spec, err := b.spec(ctx, cmd.Flags(), "", p)
		if err != nil {
			return err
		}
		return a.why(ctx, spec)
	}
	return cmd
}

func (a *app) why(ctx context.Context, spec netstate.BindSpec) error {
	sys, err := netstate.Open()
	if err != nil {
		return err
	}
	defer sys.Close()
	v, err := sys.Why(ctx, spec)
	if err != nil {
		return err
	}
	if a.json {
		err = report.Encode(a.Out, report.NewVerdict(&v))
	} else {
		err = a.text(a.Out).Verdict(&v)
	}
	if err != nil {
		return err
	}
	if status := statusOfVerdict(&v); status != exitOK {
		return &failure{status: status}
	}
	return nil
}
