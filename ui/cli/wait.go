package cli

import (
	"time"

	"github.com/spf13/cobra"

	"berth/netstate"
	"berth/reclaim"
)

func (a *app) waitCommand() *cobra.Command {
	var (
		b                 bind
		w                 where
		timeout, interval time.Duration
		defaults          = reclaim.DefaultPolicy()
	)
	cmd := &cobra.Command{
		Use:   "wait PORT",
		Short: "Wait until the port can be bound",
		Long: `Returns as soon as a real bind succeeds. It wakes up when a socket of the port
ends; the interval is only the safety net. What no wait can cure (a port that
needs a right, an address of another machine) ends it at once.`,
		Example:           `  berth wait 18789 --timeout 60s && openclaw gateway run`,
		Args:              onePort,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	b.register(fs)
	b.registerUser(fs)
	w.register(fs)
	fs.DurationVar(&timeout, "timeout", defaults.Wait, "give up after this time")
	fs.DurationVar(&interval, "interval", defaults.Interval, "try at least this often")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := port(args[0])
		if err != nil {
			return err
		}
		if err := notNegative("timeout", timeout); err != nil {
			return err
		}
		if err := positive("interval", interval); err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		scopes, note, err := w.scopes(ctx)
		if err != nil {
			return err
		}
		specs, err := b.specs(ctx, fs, p, scopes)
		if err != nil {
			return err
		}
		a.note(note)
		sys, err := netstate.Open()
		if err != nil {
			return err
		}
		defer sys.Close()
		start := time.Now()
		for _, spec := range specs {
			left := max(0, timeout-time.Since(start))
			if err := reclaim.WaitBindable(ctx, reclaim.NewSystem(sys), spec, left, interval, a.events(a.Out)); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
