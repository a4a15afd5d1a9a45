package gatewaylaunch

import "syscall"

// clearReuseAddr does nothing: Go never sets SO_REUSEADDR on Windows, where it
// means to share a port in active use.
func clearReuseAddr(_, _ string, _ syscall.RawConn) error { return nil }
