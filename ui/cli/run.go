package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/reclaim"
	"berth/ui/report"
)

// launch are the flags that say how the gateway is started.
type launch struct {
	retry gatewaylaunch.Retry
	ladder
	ready, readyBody string
	readyTimeout     time.Duration
	env              []string
	dir, user        string
	binds            binds
}

// readyTimeout leaves OpenClaw room on a busy machine, where it takes up
// to 19 s from exec to LISTEN.
const readyTimeout = time.Minute

func (l *launch) register(fs *pflag.FlagSet) {
	l.retry = gatewaylaunch.DefaultRetry()
	fs.IntVar(&l.retry.Retries, "retries", l.retry.Retries, "start the command again this often if its port is taken")
	fs.DurationVar(&l.retry.Interval, "retry-interval", l.retry.Interval, "the pause between two attempts")
	fs.DurationVar(&l.retry.For, "retry-for", 0, "go on for this time, with as many attempts as fit into it, instead of --retries")
	l.ladder.register(fs)
	fs.StringVar(&l.ready, "ready", "", "the server is ready when this URL, or path such as /healthz, answers well (default: when it listens)")
	fs.StringVar(&l.readyBody, "ready-body", "", "text that the answer to --ready contains (default \"ok\":true for openclaw)")
	fs.DurationVar(&l.readyTimeout, "ready-timeout", readyTimeout, "say so if it is not ready after this time")
	fs.StringArrayVar(&l.env, "env", nil, "set a variable of the command, NAME=VALUE; may be repeated")
	fs.StringVar(&l.dir, "dir", "", "directory to start the command in (default this one)")
	fs.StringVar(&l.user, "user", "", "start the command as this user, a name or a number (root only)")
}

func (l *launch) check(fs *pflag.FlagSet) error {
	if l.retry.Retries < 0 {
		return usage("", "--retries is %d, and cannot be negative", l.retry.Retries)
	}
	for name, d := range map[string]time.Duration{"retry-interval": l.retry.Interval, "retry-for": l.retry.For, "grace": l.grace} {
		if err := notNegative(name, d); err != nil {
			return err
		}
	}
	if l.retry.For > 0 && fs.Changed("retries") {
		return usage("leave one of them out", "--retries counts attempts and --retry-for gives their time, and they cannot both hold")
	}
	if l.readyBody != "" && l.ready == "" {
		return usage("for example: --ready /healthz", "--ready-body needs a --ready")
	}
	for _, kv := range l.env {
		if !gatewaylaunch.IsAssignment(kv) {
			return usage("for example: --env NODE_ENV=production", "--env %q is not of the form NAME=VALUE", kv)
		}
	}
	return positive("ready-timeout", l.readyTimeout)
}

// complete adds to the gateway what the flags say beyond its address.
func (l *launch) complete(g *gateway, argv []string) error {
	if l.dir != "" {
		var err error
		if g.command.Dir, err = filepath.Abs(l.dir); err != nil {
			return err
		}
	}
	if l.ready != "" {
		body := l.readyBody
		if body == "" {
			body = gatewaylaunch.HealthBodyOf(argv)
		}
		var err error
		if g.health, err = gatewaylaunch.ParseHealth(l.ready, body, g.spec); err != nil {
			return usage("for example: --ready http://127.0.0.1:8080/healthz", "--ready cannot be %q: %w", l.ready, err)
		}
	}
	if l.user != "" {
		u, err := userOf(l.user)
		if err != nil {
			return err
		}
		if int(u.UID) != os.Getuid() {
			g.command.User, g.spec.UID = u, u.UID
		}
		if err := netstate.MayBind(g.spec); err != nil {
			return &failure{status: exitDenied, err: fmt.Errorf("only root may start a command as %s: %w", l.user, err), hint: "run berth with sudo"}
		}
	}
	for _, addr := range gatewaylaunch.AlsoOf(argv) {
		spec := g.spec
		spec.Addr, spec.Family, spec.V6Only = addr, netstate.INET6, true
		// Where somebody else has it, or the machine has no such address, the
		// server does without.
		if netstate.TryBind(spec).Bindable() {
			g.also = append(g.also, addr)
		}
	}
	return nil
}

// launcher starts the gateway as the flags say.
func (l *launch) launcher(g gateway, k gatewaylaunch.Kernel) gatewaylaunch.Launcher {
	return gatewaylaunch.Launcher{
		Command: g.command, Spec: g.spec, GuessedPort: g.guessedPort, GuessedHost: g.guessed, Also: g.also, Health: g.health,
		Retry: l.retry, ReadyTimeout: l.readyTimeout, Grace: l.grace, Kernel: k,
	}
}

// gateway is a command and where it is going to serve.
type gateway struct {
	command gatewaylaunch.Command
	spec    netstate.BindSpec
	// guessed is set if neither the flags nor the command said the host, and
	// guessedPort if they did not say the port.
	guessed, guessedPort bool

	also   []netip.Addr // where it listens too
	health *gatewaylaunch.Health
}

// gatewayOf finds out where argv is going to serve: by the flags, else by its
// own words, else at the default port of the loopback address.
func (a *app) gatewayOf(ctx context.Context, b *bind, l *launch, fs *pflag.FlagSet, portFlag string, argv []string) (gateway, error) {
	argv = append(slices.Clone(l.env), argv...)
	g := gateway{command: gatewaylaunch.Command{Argv: argv, Env: a.Environ}}
	number, ok := gatewaylaunch.PortOf(argv, a.Environ)
	if !ok {
		number, g.guessedPort = netstate.DefaultPort, true
	}
	if portFlag != "" {
		var err error
		if number, err = port(portFlag); err != nil {
			return g, err
		}
		g.guessedPort = false
	}
	host, told := gatewaylaunch.HostOf(argv)
	g.guessed = !told && b.host == ""
	var err error
	if g.spec, err = b.spec(ctx, fs, host, number); err != nil {
		return g, err
	}
	return g, l.complete(&g, argv)
}

func (a *app) runCommand() *cobra.Command {
	var (
		b        bind
		c        consent
		l        launch
		force    bool
		dryRun   bool
		portFlag string
	)
	cmd := &cobra.Command{
		Use:   "run [--port N] [--force [--yes]] -- COMMAND [ARG]…",
		Short: "Run a server, and try again while its port is taken",
		Long: `Runs the command in the foreground, with this terminal. While its port is taken
it is not started: whoever holds the port is named at once, and the command is
started the moment the port is free, or after 2 s (--retries, --retry-for) in any
case. If it ends because its address was taken after all, it is started again as
long as that can help. With --force the port is freed first.

Ctrl-C asks the command to end, and a second one kills it with what it started.
It does not outlive berth.

The exit status is that of the command, or 128 plus the number of the signal
that ended it. If the port stays taken it is 3 (a process holds it) or 4 (only
the kernel does). What berth says goes to standard error, behind "berth: ".`,
		Example: `  berth run -- openclaw gateway run
  berth run --port 8080 -- node server.js
  berth run --port 8080 --force --yes -- python3 -m http.server 8080
  berth run --port 8080 --ready /healthz --retry-for 1m -- node server.js`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("for example: berth run --port 8080 -- node server.js", "run needs a command")
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false) // what follows the command's name is its own
	b.register(fs)
	c.register(fs)
	l.register(fs)
	l.binds.register(fs)
	fs.BoolVar(&force, "force", false, "first free the port from whoever holds it, after asking")
	fs.BoolVar(&dryRun, "dry-run", false, "with --force: show the plan and stop, without starting the command")
	fs.StringVar(&portFlag, "port", "", "the port that the command serves (default: its own --port, -p or PORT=, then 18789)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		if err := l.check(fs); err != nil {
			return err
		}
		if err := l.binds.check(); err != nil {
			return err
		}
		if cmd.Flags().Changed("port") && portFlag == "" {
			return usage("", "--port is empty")
		}
		if dryRun && !force {
			return usage("", "--dry-run shows the plan of --force, which is not there")
		}
		g, err := a.gatewayOf(ctx, &b, &l, fs, portFlag, args)
		if err != nil {
			return err
		}
		sys, err := netstate.Open()
		if err != nil {
			return err
		}
		defer sys.Close()
		if force {
			if err := a.makeRoom(ctx, sys, g, l, c, dryRun); err != nil || dryRun {
				return err
			}
		}
		// From here on the signals are the command's, and its end is ours.
		stop()
		return a.launch(cmd.Context(), sys, g, l, force)
	}
	return cmd
}

// makeRoom frees the port for the gateway, if it is refused, or only says how.
func (a *app) makeRoom(ctx context.Context, sys *netstate.System, g gateway, l launch, c consent, dryRun bool) error {
	if err := found(g.command.Argv); err != nil {
		return err
	}
	policy := reclaim.DefaultPolicy()
	policy.Signal, policy.Grace = syscall.Signal(l.signal), l.grace
	if !c.yes {
		// A person is asked by name before a stranger is stopped for this
		// gateway. With --yes on the same line as --force, that is decided.
		policy.Own = g.command.Argv
	}
	plan, err := makePlan(ctx, sys, g.spec, policy)
	if err != nil {
		return err
	}
	if plan.Empty() && !dryRun {
		return a.elsewhere(ctx, sys, g)
	}
	if err := a.say(func(t *report.Text) error { return t.Plan(&plan) }, report.NewPlan(&plan)); err != nil {
		return err
	}
	if !plan.Feasible {
		// The server itself is not to run as root.
		return infeasible(&plan, fmt.Sprintf("sudo berth free %d --host %s", g.spec.Port, g.spec.Host()))
	}
	if dryRun {
		return nil
	}
	return a.confirmed(ctx, sys, plan, c, a.events(&prefixed{w: a.Err}))
}

// found looks for the command's program, so that nobody is stopped for a
// command that cannot start. The launch itself says more about what is wrong
// with a program that is there.
func found(argv []string) error {
	for _, word := range argv {
		if strings.Contains(word, "=") {
			continue // NAME=value before the program
		}
		if _, err := exec.LookPath(word); err != nil {
			return &failure{
				status: exitError,
				err:    fmt.Errorf("cannot start %q: %w; nothing was signalled", word, errors.Unwrap(err)),
				hint:   "check the spelling, or give the program's path",
			}
		}
		return nil
	}
	return usage("for example: berth run --port 8080 -- node server.js", "run needs a command")
}

// elsewhere tells about a holder of the same port that is not in the way of
// the bind that was assumed, but would be in the way of a server that binds
// every address. It is not touched: nobody said that the command does that.
func (a *app) elsewhere(ctx context.Context, sys *netstate.System, g gateway) error {
	if !g.guessed {
		return nil
	}
	every, err := netstate.ResolveHost(ctx, "any")
	if err != nil {
		return err
	}
	spec := g.spec
	spec.Addr = every
	if netstate.TryBind(spec).Bindable() {
		return nil
	}
	v, err := sys.Why(ctx, spec)
	if err != nil || v.Bindable {
		return err
	}
	w := &prefixed{w: a.Err}
	_, err = fmt.Fprintf(w, "%s can be bound, but a server of every address would be refused: %s\nhint: if the command binds every address, say --host any\n", g.spec, a.text(w).Clean(v.Summary))
	return err
}

// say writes to standard error, as text or as JSON.
func (a *app) say(text func(*report.Text) error, json any) error {
	if a.json {
		return report.Encode(a.Err, json)
	}
	return text(a.text(&prefixed{w: a.Err}))
}

// launch runs the gateway in the foreground and ends with its status.
func (a *app) launch(ctx context.Context, sys *netstate.System, g gateway, l launch, forced bool) error {
	launcher := l.launcher(g, gatewaylaunch.NewKernel(sys))
	launcher.Foreground = true
	starter, done, err := a.starter(ctx, sys, g.spec, &l.binds)
	if err != nil {
		return err
	}
	defer done()
	launcher.Starter = starter
	// An error of standard error must not end the command, so it is ignored.
	t := a.text(&prefixed{w: a.Err})
	exit, err := launcher.Run(ctx, func(ev gatewaylaunch.Event) {
		if a.json {
			_ = report.Encode(a.Err, report.NewLaunch(&ev))
		} else {
			_ = t.Launch(&ev)
			if hint := hintWhileRunning(&ev, forced); hint != "" {
				_, _ = fmt.Fprintf(a.Err, "berth: hint: %s\n", t.Clean(hint))
			}
		}
	})
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return &failure{status: exit.Code}
	}
	return nil
}

// hintWhileRunning is what to do about an event, if anybody knows.
func hintWhileRunning(ev *gatewaylaunch.Event, forced bool) string {
	switch {
	case ev.Kind == gatewaylaunch.EventHeld && !forced:
		return "--force frees it first, after asking"
	case ev.Kind == gatewaylaunch.EventNotReady, ev.Kind == gatewaylaunch.EventHung:
		return hintOf(ev.Err)
	}
	return ""
}
