package cli

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/netstate/netns"
	"berth/ui"
)

func (a *app) tuiCommand() *cobra.Command {
	var (
		b bind
		l launch
		w where

		watchBind bool
	)
	cmd := &cobra.Command{
		Use:   "berth [PORT] [flags] [-- COMMAND [ARG]…]",
		Short: "Get your server its port back",
		Long: `berth shows which sockets are on a port, says why a bind is refused and when it
will succeed, frees the port, and starts the server again.

Without a verb it opens its full-screen interface: on the ports in use, or on
the page of PORT. COMMAND is the server, "the gateway", that it starts and
restarts there; without one it is a small demo gateway. Without a terminal,
"berth" is "berth list" and "berth PORT" is "berth why PORT".

With --netns the ports are those of another network namespace, such as a
container's, or of all; the gateway stays in berth's own.

Exit status: 0 done or bindable, 1 other error, 2 usage, 3 a process holds the
port, 4 only the kernel holds it, 5 not permitted, 6 timed out, 7 not confirmed
or not allowed, 8 no such address, 130 interrupted.`,
		Example: `  berth
  berth 18789
  berth 18789 -- openclaw gateway run
  berth 8080 --netns web`,
		Args:              a.tuiArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	b.register(fs)
	l.register(fs)
	w.registerNetNS(fs)
	fs.BoolVar(&watchBind, "watch-bind", false, watchBindHelp)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		at, command := splitDash(cmd, args)
		if err := l.check(fs); err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		if !a.fullScreen() {
			return a.withoutScreen(ctx, &b, &w, fs, at, command)
		}
		e, opts, err := a.interfaceOf(ctx, &b, &l, &w, fs, at, command)
		if err != nil {
			return err
		}
		defer e.sys.Close()
		if watchBind {
			e.watch(ctx)
		}
		err = a.show(ctx, e, opts)
		if ctx.Err() != nil {
			return ctx.Err() // however the program took the signal
		}
		return err
	}
	return cmd
}

// splitDash separates PORT from the command behind "--".
func splitDash(cmd *cobra.Command, args []string) (at string, command []string) {
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		args, command = args[:dash], args[dash:]
	}
	if len(args) > 0 {
		at = args[0]
	}
	return at, command
}

func (a *app) tuiArgs(cmd *cobra.Command, args []string) error {
	before := args
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		before = args[:dash]
		if dash == len(args) {
			return usage("for example: berth 8080 -- node server.js", "there is no command behind --")
		}
	}
	if len(before) == 0 {
		return nil
	}
	if c := before[0][0:min(1, len(before[0]))]; c < "0" || c > "9" {
		hint := "see berth --help"
		if near := cmd.SuggestionsFor(before[0]); len(near) > 0 {
			hint = "did you mean berth " + near[0] + "?"
		}
		return usage(hint, "%q is neither a verb nor a port", before[0])
	}
	if len(before) > 1 {
		return usage("a command stands behind --, as in: berth 8080 -- node server.js", "berth takes one port, and %q is one more argument", before[1])
	}
	_, err := port(before[0])
	return err
}

// fullScreen reports whether the interface can be shown, and is wanted.
func (a *app) fullScreen() bool {
	return !a.json && !a.plain && a.getenv("TERM") != "dumb" && isTerminal(a.In) && isTerminal(a.Out)
}

// withoutScreen answers as well as a verb can.
func (a *app) withoutScreen(ctx context.Context, b *bind, w *where, fs *pflag.FlagSet, at string, command []string) error {
	if len(command) > 0 {
		return usage("berth run -- COMMAND starts it in the foreground", "the full-screen interface, which would start the command, needs a terminal")
	}
	if at == "" {
		return a.list(ctx, b.host, listOptions{}, w)
	}
	p, err := port(at)
	if err != nil {
		return err
	}
	scopes, note, err := w.scopes(ctx)
	if err != nil {
		return err
	}
	specs, err := b.specs(ctx, fs, p, scopes)
	if err != nil {
		return err
	}
	return a.why(ctx, specs, note)
}

// reach is what the flags choose for the interface. The error is that of a
// namespace that does not exist or may not be entered.
func (w *where) reach(ctx context.Context) (ui.Reach, error) {
	if w.netns == everyNamespace {
		return ui.Reach{All: true}, nil
	}
	scopes, _, err := w.scopes(ctx)
	if err != nil {
		return ui.Reach{}, err
	}
	ns := scopes[0].NetNS
	return ui.Reach{NetNS: ns}, ns.Do(func() error { return nil })
}

// interfaceOf prepares the engine and what the interface is started with. The
// caller closes the engine's System.
func (a *app) interfaceOf(ctx context.Context, b *bind, l *launch, w *where, fs *pflag.FlagSet, at string, command []string) (*engine, ui.Options, error) {
	reach, err := w.reach(ctx)
	if err != nil {
		return nil, ui.Options{}, err
	}
	e := &engine{launch: *l, demo: len(command) == 0, reach: reach}
	gatewayAt := at
	if !reach.NetNS.Own() {
		// PORT is one of the other namespace, and the gateway has its own.
		gatewayAt = ""
	}
	opts := ui.Options{
		// A command was typed to have it running, and the bare demo is there
		// to be looked at; but "berth PORT" and "berth --netns" only ask.
		Launch:   len(command) > 0 || at == "" && w.netns == "",
		Reach:    reach,
		Theme:    a.look,
		Version:  buildVersion().Version,
		Kernel:   kernelName(),
		Hostname: hostname(),
		User:     userName(),
	}
	if e.gateway, err = a.gatewayOf(ctx, b, l, fs, gatewayAt, command); err != nil {
		return nil, opts, err
	}
	if e.state, err = statePath(a.getenv, e.gateway.spec.Port, ".json"); err != nil {
		return nil, opts, err
	}
	if e.demo && reach.NetNS.Own() {
		e.again()
	}
	opts.Found = e.running() != nil
	if e.demo {
		executable, err := os.Executable()
		if err != nil {
			return nil, opts, err
		}
		e.gateway = demoGateway(executable, e.gateway.spec, a.Environ)
	}
	if at != "" {
		if opts.Port, err = port(at); err != nil {
			return nil, opts, err
		}
	}
	fallback := ""
	if b.v6only {
		fallback = "::" // an IPv4 address cannot have the option
	}
	e.assumeIn = func(ctx context.Context, ns netns.Namespace) (netstate.BindSpec, error) {
		return b.specIn(ctx, fs, fallback, e.gateway.spec.Port, netstate.Scope{NetNS: ns})
	}
	if e.assume, err = e.assumeIn(ctx, netns.Namespace{}); err != nil {
		return nil, opts, err
	}
	if e.log, err = statePath(a.getenv, e.gateway.spec.Port, ".log"); err != nil {
		return nil, opts, err
	}
	e.sys, err = netstate.Open()
	return e, opts, err
}

// watch lets the binds of the gateway be told, where that works.
func (e *engine) watch(ctx context.Context) {
	support := bindnotify.Supported(ctx)
	switch e.watchBind = support.Watch; {
	case !e.watchBind:
		e.note = fmt.Sprintf("its binds cannot be watched here: %v", support.Err)
	case support.NoNewPrivs:
		e.note = noNewPrivs
	}
}

// again takes the command of the gateway that an earlier berth has left running
// on the port, when this one was given none. The environment is that of now.
func (e *engine) again() {
	rec, err := gatewaylaunch.ReadRecord(e.state)
	if err != nil || rec.Port != e.gateway.spec.Port {
		return
	}
	addr, err := netip.ParseAddr(rec.Host)
	if err != nil {
		return
	}
	spec := netstate.NewBindSpec(addr, rec.Port)
	e.gateway.spec = spec
	e.gateway.command.Argv, e.gateway.command.Dir = rec.Command, rec.Dir
	e.demo = false
}

// show runs the interface on the engine, ends both, and says what goes on.
func (a *app) show(ctx context.Context, e *engine, opts ui.Options) error {
	startEngine(ctx, e)
	defer e.close()
	farewell, err := ui.Run(ctx, e, opts, a.In, a.Out)
	for line := range strings.Lines(farewell) {
		fmt.Fprintln(a.Out, a.text(a.Out).Clean(strings.TrimSuffix(line, "\n")))
	}
	return err
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "this machine"
	}
	return name
}

// userName is the name by which a holder is called "you"; empty if the system
// does not tell.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}
