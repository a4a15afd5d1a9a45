package reclaim

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"berth/netstate"
)

// Self is who asks. A plan never touches its own process, its ancestors or
// the terminal that it runs in.
type Self struct {
	PID       int
	Ancestors []int
	// UID is the effective user. Signals to other users' processes need 0.
	UID int
	// Session is the number of its session, by the process that leads it; 0 if
	// it is not known.
	Session int
	// Destroy: this process may destroy sockets (CAP_NET_ADMIN).
	Destroy bool
	// Blunt: this system cannot ask a process to end, only end it.
	Blunt bool
}

// CurrentSelf describes this process.
func CurrentSelf(ctx context.Context) Self {
	self := Self{PID: os.Getpid(), UID: os.Geteuid(), Destroy: mayDestroy(), Blunt: blunt}
	for _, p := range netstate.Ancestors(ctx, self.PID) {
		self.Ancestors = append(self.Ancestors, p.PID)
	}
	self.Session = terminalLeader()
	if leader := self.Session; leader > 0 && leader != self.PID {
		self.Ancestors = append(self.Ancestors, leader)
	}
	return self
}

// forbidden says why a holder may never be signalled, or "".
func (s Self) forbidden(h netstate.Holder) string {
	switch {
	case standsIn(h) != "":
		return standsIn(h)
	case h.ID.PID <= 1:
		return "is the system's first process"
	case h.ID.PID == s.PID:
		return "is this berth"
	case slices.Contains(s.Ancestors, h.ID.PID):
		return "is an ancestor of this berth: stopping it would end the terminal or the program that started berth"
	}
	return ""
}

// lacks says which right is missing to signal a holder, or "".
func (s Self) lacks(h netstate.Holder) string {
	if s.UID <= 0 || h.UID < 0 || h.UID == s.UID {
		return ""
	}
	return "root, since the process belongs to " + userText(h)
}

// precious are programs whose loss costs more than a restart: the way into
// the machine, and those that keep other people's data.
var precious = map[string]string{
	"sshd": "the ssh server, perhaps the only way into this machine", "sshd-session": "an ssh session",
	"postgres": "a database", "mysqld": "a database", "mariadbd": "a database", "mongod": "a database",
	"redis-server": "a database", "valkey-server": "a database", "etcd": "a database", "clickhouse-serv": "a database",
	"systemd": "the service manager", "dockerd": "the container engine", "containerd": "the container engine",
	"docker-proxy": "the port of a container, not the program in it", "dbus-daemon": "the message bus",
}

// manyClients is the number of connections from which a plan must be typed.
const manyClients = 10

// typed says whether a target needs its name typed, and why.
func (s Self) typed(h netstate.Holder, policy Policy, clients int) string {
	who := name(h)
	switch {
	case h.UID >= 0 && h.UID != s.UID:
		return fmt.Sprintf("%s belongs to %s, not to you", who, userText(h))
	case precious[h.Name] != "":
		return fmt.Sprintf("%s is %s", who, precious[h.Name])
	case clients > manyClients:
		return fmt.Sprintf("%s serves %d clients", who, clients)
	case len(policy.Own) > 0 && !sameCommand(h.Cmdline, policy.Own):
		return fmt.Sprintf("%s is not the gateway that will be started", who)
	}
	return ""
}

func userText(h netstate.Holder) string {
	if h.User != "" {
		return netstate.PlainName(h.User)
	}
	return fmt.Sprintf("user %d", h.UID)
}

// sameCommand compares a holder's command line with the gateway's. A server
// may replace its command line by a title (OpenClaw's is openclaw-gateway),
// and an interpreter or a full path may stand before the words, so the last
// words decide.
func sameCommand(holder, own []string) bool {
	if len(holder) == 0 || len(own) == 0 {
		return false
	}
	if len(holder) == 1 && len(own) > 1 {
		title := base(holder[0])
		return strings.HasPrefix(title, base(own[0])+"-"+own[1])
	}
	if len(holder) < len(own) {
		return false
	}
	tail := holder[len(holder)-len(own):]
	return base(tail[0]) == base(own[0]) && slices.Equal(tail[1:], own[1:])
}

func base(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}
