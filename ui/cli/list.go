package cli

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/netstate"
	"berth/ui/report"
)

// listOptions choose what is listed.
type listOptions struct {
	states []netstate.State
	port   uint16 // 0: every port
	all    bool
}

func (a *app) listCommand() *cobra.Command {
	var (
		host, only string
		states     []string
		opts       listOptions
		w          where
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show one snapshot of the ports in use, by port",
		Long: `Shows which sockets are on which port, who holds them, and what the rules of
bind say about a server that would bind there. The ports of outgoing
connections are left out unless --all or --port asks for them.`,
		Example: `  berth list
  berth list --state TIME-WAIT,CLOSE-WAIT
  berth list --port 8080 --json
  berth list --udp
  berth list --netns all`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.StringVar(&host, "host", "", hostUsage)
	fs.StringSliceVar(&states, "state", nil, "only ports with a socket in one of these states, and only those sockets (names as ss prints them)")
	fs.StringVar(&only, "port", "", "only this port")
	w.register(fs)
	fs.BoolVar(&opts.all, "all", false, "the ports of outgoing connections too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, name := range states {
			state, err := netstate.ParseState(strings.TrimSpace(name))
			if err != nil {
				return usage("", "%w", err)
			}
			opts.states = append(opts.states, state)
		}
		if cmd.Flags().Changed("port") {
			p, err := port(only)
			if err != nil {
				return err
			}
			opts.port = p
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		return a.list(ctx, host, opts, &w)
	}
	return cmd
}

func (a *app) list(ctx context.Context, host string, opts listOptions, w *where) error {
	scopes, note, err := w.scopes(ctx)
	if err != nil {
		return err
	}
	sys, err := netstate.Open()
	if err != nil {
		return err
	}
	defer sys.Close()
	var (
		l       report.Listing
		sockets []netstate.Socket
		addrs   = map[*netstate.Snapshot]netip.Addr{}
	)
	for _, scope := range scopes {
		snap, err := sys.ReadIn(ctx, scope)
		if err != nil {
			return err
		}
		if addrs[snap], err = resolveIn(ctx, scope, host); err != nil {
			return err
		}
		if l.At.IsZero() {
			l.At, l.Caps = snap.At, snap.Caps
		}
		for number, all := range snap.Ports() {
			if chosen := opts.choose(number, all); len(chosen) > 0 {
				l.Ports = append(l.Ports, report.Port{Number: number, Snapshot: snap, Sockets: chosen})
				sockets = append(sockets, chosen...)
			}
		}
	}
	if note != "" {
		l.Caps.Notes = append(slices.Clone(l.Caps.Notes), note)
	}
	if l.Owners, err = sys.Owners(ctx, sockets); err != nil {
		return err
	}
	for i := range l.Ports {
		p := &l.Ports[i]
		spec := netstate.NewBindSpec(addrs[p.Snapshot], p.Number).In(p.Snapshot.Scope)
		if p.Verdict, err = sys.Explain(ctx, spec, nil, p.Snapshot, l.Owners); err != nil {
			return err
		}
	}
	switch {
	case a.json:
		return report.Encode(a.Out, report.NewList(&l))
	case a.plain:
		return a.text(a.Out).ListPlain(&l)
	}
	return a.text(a.Out).List(&l)
}

// choose returns the sockets of one port that are to be listed.
func (o *listOptions) choose(number uint16, sockets []netstate.Socket) []netstate.Socket {
	if o.port != 0 && o.port != number {
		return nil
	}
	if o.port == 0 && !o.all && !netstate.Serves(sockets) {
		return nil
	}
	if len(o.states) == 0 {
		return sockets
	}
	var chosen []netstate.Socket
	for i := range sockets {
		for _, state := range o.states {
			if sockets[i].State == state {
				chosen = append(chosen, sockets[i])
				break
			}
		}
	}
	return chosen
}
