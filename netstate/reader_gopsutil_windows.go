//go:build !amd64

package netstate

// openBackend reads through gopsutil, since go-netstat knows Windows on amd64
// only.
func openBackend(scope Scope) (backend, error) {
	return gopsutilBackend{protocol: scope.Protocol, capabilities: windowsCaps()}, nil
}
