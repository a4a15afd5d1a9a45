//go:build amd64

package netstate

import (
	"errors"

	"github.com/cakturk/go-netstat/netstat"
	"golang.org/x/sys/windows"
)

func openBackend(scope Scope) (backend, error) { return netstatBackend{scope.Protocol}, nil }

func (netstatBackend) caps() Caps { return windowsCaps() }

// readNetstat tries again if the table grew between the question for its size
// and the answer, which a busy server makes likely. That error comes before
// the first entry, so accept has not been called.
func readNetstat(read func(netstat.AcceptFn) ([]netstat.SockTabEntry, error), accept netstat.AcceptFn) ([]netstat.SockTabEntry, error) {
	var entries []netstat.SockTabEntry
	var err error
	for range 5 {
		entries, err = read(accept)
		if !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) {
			break
		}
	}
	return entries, err
}

// netstatState: on Windows go-netstat passes the number of iphlpapi on.
func netstatState(s netstat.SkState) State { return mibState(uint32(s)) }

// netstatUID: Windows names the owner of a process, not of a socket.
func netstatUID(*netstat.SockTabEntry, *Socket) (uid uint32, known bool) { return 0, false }
