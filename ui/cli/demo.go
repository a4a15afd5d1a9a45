package cli

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"berth/gatewaylaunch"
	"berth/netstate"
)

func (a *app) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Small servers to try berth on",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("try berth demo gateway", "no demo is called %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.demoGatewayCommand())
	return cmd
}

func (a *app) demoGatewayCommand() *cobra.Command {
	var (
		host, portFlag   string
		forgot, untilEOF bool
	)
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run the embedded gateway: /healthz, and /stream that keeps connections open",
		Example: `  berth demo gateway --port 8080
  berth demo gateway --no-reuseaddr   # its TIME-WAIT sockets block its restart`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.StringVar(&host, "host", "", "address to listen on (default loopback, 127.0.0.1)")
	fs.StringVar(&portFlag, "port", "18789", "port to listen on")
	fs.BoolVar(&forgot, "no-reuseaddr", false, "listen without SO_REUSEADDR, as if its author had forgotten it")
	fs.BoolVar(&untilEOF, "until-eof", false, "end when standard input does")
	_ = fs.MarkHidden("until-eof") // it exists: the line above says so
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := port(portFlag)
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		addr, err := netstate.ResolveHost(ctx, host)
		if err != nil {
			return err
		}
		demo := gatewaylaunch.Demo{Addr: netip.AddrPortFrom(addr, p).String(), NoReuseAddr: forgot}
		if untilEOF {
			demo.UntilEOF = a.In
		}
		if err := demo.Run(ctx, a.Out); err != nil {
			return cannotListen(ctx, err, netstate.NewBindSpec(addr, p))
		}
		return nil
	}
	return cmd
}

// cannotListen adds to the error of a refused bind who refuses it.
func cannotListen(ctx context.Context, err error, spec netstate.BindSpec) error {
	class := netstate.Probe{Err: err}.Class()
	if class == netstate.ClassNone || class == netstate.ClassOther {
		return err
	}
	sys, openErr := netstate.Open()
	if openErr != nil {
		return err
	}
	defer sys.Close()
	v, whyErr := sys.Why(ctx, spec)
	if whyErr != nil || v.Bindable {
		return err
	}
	return &failure{status: statusOfVerdict(&v), err: err, hint: v.Summary}
}

// demoGateway is this program as the gateway: "berth demo gateway".
func demoGateway(executable string, spec netstate.BindSpec, environ []string) gateway {
	return gateway{
		spec: spec,
		command: gatewaylaunch.Command{
			Argv: []string{executable, "demo", "gateway", "--host", spec.Addr.String(), "--port", portText(spec.Port), "--until-eof"},
			Env:  environ,
		},
	}
}

// visitors are the clients of the demo gateway. They come when it is ready and
// leave when it has ended, so that they never call on somebody else's server.
type visitors struct {
	cancel context.CancelFunc
	gone   chan struct{}
}

// manyVisitors is how many connections a restart of the demo gateway cuts off,
// and so how many TIME-WAIT sockets it leaves.
const manyVisitors = 5

func (v *visitors) come(ctx context.Context, spec netstate.BindSpec) {
	v.leave()
	clients := gatewaylaunch.DemoClients{Addr: spec.AddrPort().String(), N: manyVisitors}
	ctx, v.cancel = context.WithCancel(ctx)
	gone := make(chan struct{})
	v.gone = gone
	go func() {
		defer close(gone)
		clients.Run(ctx)
	}()
}

// leave ends the connections that are left and waits for their end.
func (v *visitors) leave() {
	if v.cancel != nil {
		v.cancel()
		<-v.gone
		v.cancel = nil
	}
}
