package netstate

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cakturk/go-netstat/netstat"
	"golang.org/x/sys/unix"
)

// openNetstat reads /proc/net/tcp and tcp6, or udp and udp6. It fails only if
// /proc cannot be read at all.
func openNetstat(protocol Protocol) (backend, error) {
	f, err := os.Open("/proc/net/" + protocol.String())
	if err != nil {
		hint := "run where /proc/net may be read"
		if errors.Is(err, fs.ErrNotExist) {
			hint = "mount it: mount -t proc proc /proc"
		}
		return nil, &OpError{Op: "read the socket table in /proc", Err: err, Hint: hint}
	}
	f.Close()
	return netstatBackend{protocol}, nil
}

// caps says what go-netstat leaves out; Linux itself could tell more, so the
// one who chose this backend says why it was chosen.
func (netstatBackend) caps() Caps {
	c := Caps{Source: "/proc/net"}
	c.AllHolders = hasCapability(unix.CAP_SYS_PTRACE) && hasCapability(unix.CAP_DAC_READ_SEARCH)
	if !c.AllHolders {
		c.Notes = append(c.Notes, "other users' processes are hidden: run as root to see who holds their sockets")
	}
	return c
}

// readNetstat needs no second try: the table is a file.
func readNetstat(read func(netstat.AcceptFn) ([]netstat.SockTabEntry, error), accept netstat.AcceptFn) ([]netstat.SockTabEntry, error) {
	return read(accept)
}

// netstatState: on Linux go-netstat passes the kernel's number on.
func netstatState(s netstat.SkState) State { return State(s) }

// netstatUID tells the uid of a socket that has an owner. The table says 0
// for those that have none, such as TIME-WAIT, and 0 there is not root; it
// does not tell an owner's absence, so a 0 counts only where it is certain.
func netstatUID(e *netstat.SockTabEntry, s *Socket) (uid uint32, known bool) {
	switch {
	case s.State == TimeWait:
		return 0, false
	case e.UID != 0, s.PID != 0, s.State == Listen:
		return e.UID, true
	}
	return 0, false
}
