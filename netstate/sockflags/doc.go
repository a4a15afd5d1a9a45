// Package sockflags reads the options that decide a bind — SO_REUSEADDR,
// SO_REUSEPORT and IPV6_V6ONLY — of every TCP socket that is in the kernel's
// hash tables, including those that no process owns: TIME-WAIT, orphans,
// connections that nobody has accepted yet. No other interface shows them.
//
// It runs a BPF iterator (iter/tcp) of some twenty instructions, assembled
// here, with the field offsets of the running kernel's own BTF: no compiler,
// no kprobe, nothing attached to a hot path. It needs Linux 5.9 with BTF, and
// CAP_BPF with CAP_PERFMON, or root:
//
//	r, err := sockflags.Open()
//	if err != nil {
//		… // say which right is missing; the options stay unknown
//	}
//	defer r.Close()
//	err = r.Read(func(f sockflags.Flags) { … f.Cookie joins it to sock_diag … })
//
// Sockets are joined to a sock_diag dump by their cookie, which the kernel
// gives a socket when it is first dumped: dump first, read second.
package sockflags
