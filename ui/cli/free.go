package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/netstate"
	"berth/reclaim"
	"berth/ui/report"
)

func (a *app) freeCommand() *cobra.Command {
	var (
		b      bind
		w      where
		c      consent
		dryRun bool
		l      ladder
		policy = reclaim.DefaultPolicy()
	)
	cmd := &cobra.Command{
		Use:   "free PORT",
		Short: "Make the port bindable: plan, confirm, stop what holds it, prove it with a bind",
		Long: `Shows what it is going to do and asks before it does it. Only processes that
hold a socket which blocks the bind are touched: SIGTERM first, SIGKILL after
the grace period. The port is free when a real bind says so.

With --fast it is free within a millisecond, however large the process is:
SIGKILL at once, and its listener is shut down while it is still ending.
With --destroy what only the kernel holds is destroyed, and so is a client's
connection that happens to use the port; the client itself is never touched.`,
		Example: `  berth free 18789
  berth free 18789 --yes --signal INT --grace 10s
  berth free 18789 --yes --fast
  berth free 18789 --destroy --dry-run`,
		Args:              onePort,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	b.register(fs)
	w.register(fs)
	c.register(fs)
	fs.BoolVar(&dryRun, "dry-run", false, "show the plan and stop")
	l.register(fs)
	fs.BoolVar(&policy.NoKill, "no-kill", false, "never send SIGKILL")
	fs.BoolVar(&policy.Fast, "fast", false, "SIGKILL at once: unsaved work is lost and no shutdown hook runs")
	fs.BoolVar(&policy.Destroy, "destroy", false, "destroy the TIME-WAIT sockets, orphans and a client's connection that block the bind (root)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		p, err := port(args[0])
		if err != nil {
			return err
		}
		if err := notNegative("grace", l.grace); err != nil {
			return err
		}
		policy.Signal, policy.Grace = syscall.Signal(l.signal), l.grace
		if policy.Fast {
			for _, name := range []string{"no-kill", "signal", "grace"} {
				if fs.Changed(name) {
					return usage("", "--fast sends SIGKILL at once, so --%s has no meaning with it", name)
				}
			}
		}
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
		for _, spec := range specs {
			plan, err := makePlan(ctx, sys, spec, policy)
			if err != nil {
				return err
			}
			if len(specs) > 1 && !spec.NetNS.Own() && plan.Empty() {
				continue // of several namespaces, one where nothing is to do
			}
			if err := a.free(ctx, sys, plan, c, dryRun); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// ladder are the flags that say how a process is asked to end.
type ladder struct {
	signal signalFlag
	grace  time.Duration
}

func (l *ladder) register(fs *pflag.FlagSet) {
	l.signal = signalFlag(syscall.SIGTERM)
	fs.Var(&l.signal, "signal", "the polite signal: TERM, INT, HUP or QUIT")
	fs.DurationVar(&l.grace, "grace", reclaim.DefaultPolicy().Grace, "how long a process may take to exit after the polite signal")
}

// signalFlag is the value of --signal.
type signalFlag syscall.Signal

func (s *signalFlag) String() string {
	return strings.TrimPrefix(reclaim.SignalName(syscall.Signal(*s)), "SIG")
}

func (s *signalFlag) Type() string { return "signal" }

func (s *signalFlag) Set(text string) error {
	sig, err := reclaim.ParseSignal(text)
	*s = signalFlag(sig)
	return err
}

// free shows the plan, asks, and carries it out.
func (a *app) free(ctx context.Context, sys *netstate.System, plan reclaim.Plan, c consent, dryRun bool) error {
	if dryRun || !plan.Feasible || !a.json && !plan.Empty() {
		if err := a.showPlan(&plan); err != nil {
			return err
		}
	}
	if !plan.Feasible {
		return infeasible(&plan, shell(append([]string{"sudo", "berth"}, a.args...)))
	}
	if dryRun {
		return nil
	}
	return a.confirmed(ctx, sys, plan, c, a.events(a.Out))
}

// makePlan asks the kernel why and plans accordingly.
func makePlan(ctx context.Context, sys *netstate.System, spec netstate.BindSpec, policy reclaim.Policy) (reclaim.Plan, error) {
	v, err := sys.Why(ctx, spec)
	if err != nil {
		return reclaim.Plan{}, err
	}
	self := reclaim.CurrentSelf(ctx)
	plan := reclaim.NewPlan(v, policy, self)
	err = weigh(ctx, sys, &plan, self)
	return plan, err
}

// weigh adds to a plan what would be lost with its targets.
func weigh(ctx context.Context, sys *netstate.System, plan *reclaim.Plan, self reclaim.Self) error {
	targets := plan.Targets()
	if len(targets) == 0 {
		return nil
	}
	snap, err := sys.ReadIn(ctx, plan.Spec.Scope)
	if err != nil {
		return err
	}
	im, err := sys.Impact(ctx, snap, plan.Spec.Port, targets)
	if err != nil {
		return err
	}
	plan.Weigh(im, self)
	return nil
}

func (a *app) showPlan(plan *reclaim.Plan) error {
	if a.json {
		return report.Encode(a.Out, report.NewPlan(plan))
	}
	return a.text(a.Out).Plan(plan)
}

// events writes each event to w, as a sentence or as a line of JSON. An error
// of w does not stop a run: what is under way is finished or waited for, told
// or not.
func (a *app) events(w io.Writer) func(reclaim.Event) {
	if a.json {
		if p, ok := w.(*prefixed); ok {
			w = p.w // A prefix would spoil the JSON.
		}
		return func(ev reclaim.Event) { _ = report.Encode(w, report.NewEvent(&ev)) }
	}
	return sentences(a.text(w))
}

// sentences writes events as sentences. A wait makes many probes, so a
// refused one is told only if it is refused for another reason than before;
// and what ends the run is left to the error that Run returns.
func sentences(t *report.Text) func(reclaim.Event) {
	var told string
	return func(ev reclaim.Event) {
		switch ev.Kind {
		case reclaim.EventTimeout, reclaim.EventError, reclaim.EventCancelled, reclaim.EventStale, reclaim.EventSurvived,
			reclaim.EventRestored, reclaim.EventRespawn:
			return
		case reclaim.EventProbe:
			key := refusalKey(&ev)
			if key == told {
				return
			}
			told = key
		}
		_ = t.Event(&ev)
	}
}

// refusalKey is the same for probes that were refused by the same sockets.
func refusalKey(ev *reclaim.Event) string {
	if ev.Verdict == nil {
		return fmt.Sprint(ev.Probe.Err)
	}
	var key strings.Builder
	key.WriteString(string(ev.Verdict.Reason))
	for i := range ev.Verdict.Blockers {
		s := &ev.Verdict.Blockers[i].Socket
		fmt.Fprintf(&key, " %d/%s/%s/%s", s.Cookie, s.State, s.Local, s.Remote)
	}
	return key.String()
}

// confirmed asks for the plan that was shown and runs it. What is held while a
// person thinks is what that person has seen.
func (a *app) confirmed(ctx context.Context, sys *netstate.System, plan reclaim.Plan, c consent, on func(reclaim.Event)) error {
	held := reclaim.Hold(reclaim.NewSystem(sys), plan)
	defer held.Close()
	if err := a.confirm(ctx, &plan, c); err != nil {
		return err
	}
	return a.reclaim(ctx, held, on)
}

// reclaim runs the plan. If it is interrupted, the error says what had been
// done by then, since that stays done.
func (a *app) reclaim(ctx context.Context, held *reclaim.Held, on func(reclaim.Event)) error {
	err := held.Run(ctx, on)
	var cancelled *reclaim.CancelledError
	if !errors.As(err, &cancelled) {
		return err
	}
	return &failure{status: exitInterrupted, err: fmt.Errorf("interrupted; %s", cancelled.What())}
}

// shell writes a command as a person can paste it into a shell.
func shell(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		plain := func(c rune) bool {
			return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_./:=@%+,", c)
		}
		if out[i] = w; w == "" || strings.ContainsFunc(w, func(c rune) bool { return !plain(c) }) {
			out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}

// infeasible is the error of a plan that must not run. asRoot is the command
// that would free the port if only a right is missing.
func infeasible(plan *reclaim.Plan, asRoot string) error {
	f := &failure{status: exitGuard, err: &reclaim.InfeasibleError{Plan: *plan}}
	switch plan.Verdict.Reason {
	case netstate.ReasonHeld, netstate.ReasonBound, netstate.ReasonInUse:
	default:
		// No process stands in the way, so the verdict says what helps.
		f.status = statusOfVerdict(&plan.Verdict)
		if cures := plan.Verdict.Cures; len(cures) > 0 {
			if f.hint = cures[0].Text; cures[0].Command != "" {
				f.hint += ": " + cures[0].Command
			}
		}
	}
	needs := func(s reclaim.Step) bool { return s.Needs != "" }
	hidden := func(b netstate.Blocker) bool { return b.Socket.Owned() && len(b.Holders) == 0 }
	if slices.ContainsFunc(plan.Steps, needs) || slices.ContainsFunc(plan.Verdict.Blockers, hidden) {
		f.status = exitDenied
		if os.Geteuid() > 0 { // Windows has -1 and no sudo.
			f.hint = asRoot
		}
	}
	return f
}
