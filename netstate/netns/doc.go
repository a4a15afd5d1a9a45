// Package netns lists, finds and enters Linux network namespaces.
//
// A bind only ever meets sockets of its own network namespace, so the port of
// a container is looked at from inside the container's namespace:
//
//	ns, err := netns.Find(ctx, "4211")   // that of a process
//	ns, err := netns.Find(ctx, "blue")   // that of "ip netns add blue"
//	err = ns.Do(func() error { … })      // on a thread inside it
//
// Only the thread that runs the function changes its namespace; the rest of
// the program does not notice. To enter one takes CAP_SYS_ADMIN. The zero
// Namespace is the one that this process lives in, which everybody may use.
//
// Other systems have no network namespaces: there Find and List say so with
// errors.ErrUnsupported, and only the zero Namespace exists.
package netns
