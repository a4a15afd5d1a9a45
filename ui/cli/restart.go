package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/reclaim"
	"berth/ui/report"
)

// handover are the flags that say how a server takes over from another.
type handover struct {
	how gatewaylaunch.Handover
	ladder
	readyTimeout, holdFor time.Duration
}

// handoverFlag is the value of --handover.
type handoverFlag struct{ to *gatewaylaunch.Handover }

func (f handoverFlag) String() string {
	if f.to == nil {
		return ""
	}
	return string(*f.to)
}

func (handoverFlag) Type() string { return "order" }

func (f handoverFlag) Set(text string) (err error) {
	how, err := gatewaylaunch.ParseHandover(text)
	if err == nil {
		*f.to = how
	}
	return err
}

func (h *handover) register(fs *pflag.FlagSet) {
	h.how = gatewaylaunch.Queue
	fs.Var(handoverFlag{&h.how}, "handover", "queue: the old server ends first; overlap: the new one listens first; plain: clients are refused in between")
	h.ladder.register(fs)
	fs.DurationVar(&h.readyTimeout, "ready-timeout", readyTimeout, "say so if nothing listens after this time")
	fs.DurationVar(&h.holdFor, "hold-for", 30*time.Second, "how long the new server may wait for an address that cannot be handed over")
}

func (h *handover) check() error {
	if err := notNegative("grace", h.grace); err != nil {
		return err
	}
	if err := positive("hold-for", h.holdFor); err != nil {
		return err
	}
	return positive("ready-timeout", h.readyTimeout)
}

func (a *app) restartCommand() *cobra.Command {
	var (
		b      bind
		c      consent
		h      handover
		dryRun bool
		detach bool
	)
	cmd := &cobra.Command{
		Use:   "restart PORT [--handover queue|overlap] [--detach] -- COMMAND [ARG]…",
		Short: "Replace the server that listens on a port, without refusing a client",
		Long: `Takes the listening socket from whoever listens on the port, ends that server
and runs the command in its place, which gets the socket when it binds the
address. Neither has to know of it. Clients that connect meanwhile wait.

With queue, the default, the old server ends before the new one starts: right
for servers with a lock, a pid file or a database. With overlap the new one
starts first, and if it ends before it listens, the old one goes on as if
nothing had been. With queue nothing serves the port then.

Like run, it stays with the command and ends with its status. What berth says
goes to standard error, behind "berth: ".

With --detach it returns with status 0 as soon as the new server serves, and
leaves it running: in a session of its own, with its output in a log in the
state directory, where the next "berth PORT -- COMMAND" finds it. If it does not
come to serve, it is stopped, and the status is its own or 6 (not in time). So a
restart is one command for whatever calls one when a file has changed.`,
		Example: `  berth restart 8080 --yes -- node server.js
  berth restart 8080 --handover overlap -- python3 -m http.server 8080

  # on each change, without a refused connection:
  watchexec --on-busy-update=queue -e js -- berth restart 8080 --yes --detach -- node server.js
  ls *.js | entr -n berth restart 8080 --yes --detach -- node server.js
  nodemon --exec "berth restart 8080 --yes --detach -- node" server.js
  # in Vim:
  :autocmd BufWritePost *.js call job_start("berth restart 8080 --yes --detach -- node server.js")`,
		Args: func(cmd *cobra.Command, args []string) error {
			const example = "for example: berth restart 8080 -- node server.js"
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) == 0 || dash == 0:
				return usage(example, "restart needs a port")
			case dash < 0 || dash == len(args):
				return usage(example, "restart needs a command after --")
			case dash > 1:
				return usage(example, "restart takes one port before --, not %d words", dash)
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	b.register(fs)
	c.register(fs)
	h.register(fs)
	fs.BoolVar(&detach, "detach", false, "return as soon as the new server serves, and leave it running in the background")
	fs.BoolVar(&dryRun, "dry-run", false, "show the plan and stop")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		if err := h.check(); err != nil {
			return err
		}
		number, err := port(args[0])
		if err != nil {
			return err
		}
		argv := args[1:]
		if err := found(argv); err != nil {
			return err
		}
		host, told := gatewaylaunch.HostOf(argv)
		g := gateway{command: gatewaylaunch.Command{Argv: argv, Env: a.Environ}, guessed: !told && b.host == ""}
		if g.spec, err = b.spec(ctx, fs, host, number); err != nil {
			return err
		}
		sys, err := netstate.Open()
		if err != nil {
			return err
		}
		defer sys.Close()
		policy := restartPolicy(h.ladder)
		if !c.yes {
			policy.Own = argv
		}
		plan, err := restartPlan(ctx, sys, g, policy)
		if err != nil {
			return err
		}
		if len(plan.Targets()) == 0 && plan.Feasible {
			a.note(fmt.Sprintf("nobody listens on port %d, so the command is only started", number))
			l := launch{retry: gatewaylaunch.DefaultRetry(), ladder: h.ladder, readyTimeout: h.readyTimeout}
			switch {
			case dryRun:
				return nil
			case ctx.Err() != nil:
				return ctx.Err()
			case detach:
				return a.launchDetached(ctx, l.launcher(g, gatewaylaunch.NewKernel(sys)))
			}
			stop()
			return a.launch(cmd.Context(), sys, g, l, false)
		}
		support := bindnotify.Supported(ctx)
		if err := a.showRestart(&plan, h.how, support, g); err != nil {
			return err
		}
		if !plan.Feasible {
			return infeasible(&plan, shell(append([]string{"sudo", "berth"}, a.args...)))
		}
		if dryRun {
			return nil
		}
		held := reclaim.Hold(reclaim.NewSystem(sys), plan)
		defer held.Close()
		if err := a.confirm(ctx, &plan, c); err != nil {
			return err
		}
		r := gatewaylaunch.Restart{
			Launcher: gatewaylaunch.Launcher{
				Command: g.command, Spec: g.spec, ReadyTimeout: h.readyTimeout, Grace: h.grace,
				Foreground: true, Kernel: gatewaylaunch.NewKernel(sys),
			},
			How: h.how, Old: held, Plan: plan, HoldFor: h.holdFor, Support: support,
		}
		if detach {
			return a.restartDetached(ctx, r)
		}
		// From here on the signals are the restart's.
		stop()
		return a.restart(cmd.Context(), r)
	}
	return cmd
}

// restartPolicy is how a restart stops the old server.
func restartPolicy(l ladder) reclaim.Policy {
	policy := reclaim.DefaultPolicy()
	policy.Signal, policy.Grace = syscall.Signal(l.signal), l.grace
	return policy
}

// restartPlan says whom the restart stops. A server that was found at every
// address, though only the command's usual one was assumed, is one too: a
// restart is of what listens, wherever that is.
func restartPlan(ctx context.Context, sys *netstate.System, g gateway, policy reclaim.Policy) (reclaim.Plan, error) {
	policy.Ends = true // it is the server that goes, and not its socket
	plan, err := makePlan(ctx, sys, g.spec, policy)
	if err != nil || !plan.Empty() || !g.guessed {
		return gatewaylaunch.StopOnly(plan), err
	}
	every, err := netstate.ResolveHost(ctx, "any")
	if err != nil {
		return plan, err
	}
	spec := g.spec
	spec.Addr = every
	if plan, err = makePlan(ctx, sys, spec, policy); err != nil {
		return plan, err
	}
	return gatewaylaunch.StopOnly(plan), nil
}

// showRestart shows what is going to happen, also that a hand-over is not
// possible here.
func (a *app) showRestart(plan *reclaim.Plan, how gatewaylaunch.Handover, support bindnotify.Support, g gateway) error {
	if here := how.Here(support); here != how {
		how = here
		a.note(fmt.Sprintf("the socket cannot be handed over here, so clients are refused for a moment: %v", support.Err))
	}
	if a.json {
		return report.Encode(a.Err, report.NewPlan(plan))
	}
	t := a.text(&prefixed{w: a.Err})
	if how != gatewaylaunch.Plain && support.NoNewPrivs {
		a.note(noNewPrivs)
	}
	if !plan.Feasible {
		return t.Plan(plan)
	}
	return t.RestartPlan(plan, how, shell(g.command.Argv))
}

// restartEvents tells what happens. An error of standard error must not end the
// command, so it is ignored.
func (a *app) restartEvents() func(gatewaylaunch.RestartEvent) {
	t := a.text(&prefixed{w: a.Err})
	stopping := sentences(t)
	return func(ev gatewaylaunch.RestartEvent) {
		switch {
		case a.json:
			_ = report.Encode(a.Err, report.NewRestart(&ev))
		case ev.Stop != nil:
			stopping(*ev.Stop)
		case ev.Launch != nil && ev.Launch.Kind == gatewaylaunch.EventOutput:
			a.note("| " + ev.Launch.Line)
		default:
			_ = t.Restart(&ev)
		}
	}
}

func (a *app) restart(ctx context.Context, r gatewaylaunch.Restart) error {
	exit, err := r.Run(ctx, a.restartEvents())
	var cancelled *reclaim.CancelledError
	if errors.As(err, &cancelled) {
		return &failure{status: exitInterrupted, err: fmt.Errorf("interrupted; %s", cancelled.What())}
	}
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return &failure{status: exit.Code}
	}
	return nil
}
