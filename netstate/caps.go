package netstate

// Caps says what a reader can tell on this system and with these rights, so
// that nothing unknown is ever shown as absent.
type Caps struct {
	// Source names the table: "sock_diag", "/proc/net", "sysctl", "iphlpapi".
	Source string `json:"source"`
	// Timers: the time that a TIME-WAIT socket has left is known.
	Timers bool `json:"timers"`
	// Bound: sockets that are bound but neither listen nor connect are listed.
	Bound bool `json:"bound"`
	// Inodes: sockets are matched to every process that shares them, not to
	// the first.
	Inodes bool `json:"inodes"`
	// AllHolders: the holders of other users' sockets can be seen too.
	AllHolders bool `json:"all_holders"`
	// Destroy: this process may destroy single sockets (SOCK_DESTROY).
	Destroy bool `json:"destroy"`
	// EphemeralFrom and EphemeralTo bound the local ports that the system gives
	// to outgoing connections (ip_local_port_range); 0 if not known.
	EphemeralFrom uint16 `json:"-"`
	EphemeralTo   uint16 `json:"-"`
	// IPv6 tells whether the machine has the address ::1. Where IPv6 is turned
	// off, as in many containers, a bind to it is refused.
	IPv6 Tri `json:"-"`
	// Wheel tells when TIME-WAIT really ends; nil if nothing is known of it.
	Wheel *Wheel `json:"-"`
	// Notes say in sentences what is missing and how to get it.
	Notes []string `json:"notes,omitempty"`
}

// Ephemeral reports whether the system may give port to an outgoing
// connection by itself.
func (c *Caps) Ephemeral(port uint16) bool {
	return c.EphemeralFrom != 0 && c.EphemeralFrom <= port && port <= c.EphemeralTo
}
