// Package reclaim frees a port: it makes a plan from a verdict, guards it,
// and runs it.
//
// A plan is data. It can be printed, confirmed or thrown away, and Run does
// nothing that it does not say:
//
//	verdict, err := sys.Why(ctx, spec)
//	…
//	plan := reclaim.NewPlan(verdict, reclaim.DefaultPolicy(), reclaim.CurrentSelf(ctx))
//	if plan.Feasible && confirmed(plan) {
//		err = reclaim.Run(ctx, reclaim.NewSystem(sys), plan, func(e reclaim.Event) { … })
//	}
//
// A process is signalled only through a handle that cannot reach another one
// (a pidfd, opened before the first signal, with the start time compared).
// The end of a run is proved by a real bind with the server's own options:
// "the pid is gone" does not mean "the port is free", and the reverse.
// Cancelling the context stops the waiting; it cannot take back a signal.
package reclaim
