// Package reclaim frees a port: it makes a plan from a verdict, guards it,
// and runs it.
//
// A plan is data. It can be printed, confirmed or thrown away, and Run does
// nothing that it does not say:
//
//	verdict, err := sys.Why(ctx, spec)
//	…
//	plan := reclaim.NewPlan(verdict, reclaim.DefaultPolicy(), reclaim.CurrentSelf(ctx))
//	held := reclaim.Hold(reclaim.NewSystem(sys), plan)
//	defer held.Close()
//	if plan.Feasible && confirmed(plan) {
//		err = held.Run(ctx, func(e reclaim.Event) { … })
//	}
//
// A process is signalled only through a handle that cannot reach another one
// (a pidfd, opened when the plan is shown, with the start time compared), and
// only if it is still the program that the plan has named.
// The end of a run is proved by a real bind with the server's own options:
// "the pid is gone" does not mean "the port is free", and the reverse.
// Cancelling the context stops the waiting; it cannot take back a signal.
package reclaim
