package reclaim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/netstate"
)

// supervisorText names a supervisor: "supervisord 812", "the user's systemd".
func supervisorText(s *netstate.Supervisor) string {
	switch s.Kind {
	case netstate.SupervisorSystemdUser:
		return "the user's systemd"
	case netstate.SupervisorSystemd:
		return "systemd"
	}
	if s.PID > 1 {
		return fmt.Sprintf("%s %d", s.Kind, s.PID)
	}
	return string(s.Kind)
}

// standsIn says for whom a process holds the port that is only a go-between,
// as docker-proxy is, or a manager that lends its sockets out; empty if it is
// none. Its end would cost others their port, or bring nothing.
func standsIn(h netstate.Holder) string {
	s := h.Supervisor
	if s == nil || !s.HoldsPort || s.PID != h.ID.PID && (s.PID != 0 || s.Kind != netstate.SupervisorDocker && s.Kind != netstate.SupervisorPodman) {
		return ""
	}
	whom := "another program"
	if s.Name != "" {
		whom = netstate.PlainName(s.Name)
	}
	text := "only holds the port for " + whom
	switch {
	case s.Stop != "":
		text += ": to free it, " + s.Stop
	case s.Find != "":
		text += ": see " + s.Find
	}
	return text
}

// supervisorRisk says what a target's supervisor will do when the target ends,
// and what to say to it instead; empty if there is none or it does nothing.
func supervisorRisk(h netstate.Holder) string {
	s := h.Supervisor
	if s == nil {
		return ""
	}
	by, service := supervisorText(s), netstate.PlainName(s.Name)
	var text string
	switch {
	case s.HoldsPort && service == "":
		text = by + " itself holds the port for something whose name is not known"
	case s.HoldsPort:
		text = fmt.Sprintf("%s itself holds the port for %s", by, service)
	case s.OnChange:
		text = fmt.Sprintf("%s starts %s again when a file changes", by, name(h))
	case s.Restarts == netstate.No && strings.HasSuffix(service, ".service"):
		return ""
	case s.Restarts == netstate.No:
		text = fmt.Sprintf("%s stops its other programs when %s ends", by, name(h))
	default:
		will := "may"
		if s.Restarts == netstate.Yes {
			will = "will"
		}
		text = fmt.Sprintf("%s %s start %s again", by, will, name(h))
		if s.Delay >= time.Second {
			text += " after " + netstate.Seconds(s.Delay)
		}
		if service != "" {
			text += " (" + service + ")"
		}
	}
	switch {
	case s.Stop != "":
		return text + ": to stop it for good, " + s.Stop
	case s.Find != "":
		return text + ": see " + s.Find
	}
	return text
}

// longRun is the age from which a process is worth a second look: what has run
// for days was hardly forgotten there.
const longRun = 24 * time.Hour

// shown is how many of a kind a sentence names.
const shown = 4

// impactRisks says what is lost with the targets of a plan. What could not be
// read gives no sentence, since it is neither something nor nothing.
func impactRisks(im *netstate.Impact, targets []netstate.Holder, now time.Time) []string {
	var risks []string
	if text := clientsRisk(im.Clients, targets); text != "" {
		risks = append(risks, text)
	}
	for _, h := range targets {
		if age := now.Sub(h.Started); !h.Started.IsZero() && age >= longRun {
			risks = append(risks, fmt.Sprintf("%s has run for %d d", name(h), age/longRun))
		}
		i := slices.IndexFunc(im.Holders, func(hi netstate.HolderImpact) bool { return hi.ID == h.ID })
		if i < 0 {
			continue
		}
		if s := im.Holders[i].Children; s.Count > 0 {
			risks = append(risks, fmt.Sprintf("the children of %s go on: %s", name(h), listed(s, kinName)))
		}
		if s := restOfGroup(&im.Holders[i], targets); s.Count > 0 {
			risks = append(risks, fmt.Sprintf("not signalled, though in the process group of %s: %s", name(h), listed(s, kinName)))
		}
		if s := im.Holders[i].Writing; s.Count > 0 {
			risks = append(risks, fmt.Sprintf("%s writes to %s", name(h), listed(s, netstate.PlainName)))
		}
	}
	return risks
}

func kinName(k netstate.Kin) string {
	return name(netstate.Holder{ID: netstate.ProcessID{PID: k.PID}, Name: k.Name})
}

// restOfGroup are the members of a holder's process group that are neither
// targets nor named as its children: what Ctrl-C would end and a plan does not.
func restOfGroup(hi *netstate.HolderImpact, targets []netstate.Holder) netstate.Sample[netstate.Kin] {
	rest := hi.Group
	rest.First = slices.DeleteFunc(slices.Clone(rest.First), func(k netstate.Kin) bool {
		return slices.ContainsFunc(hi.Children.First, func(c netstate.Kin) bool { return c.PID == k.PID }) ||
			slices.ContainsFunc(targets, func(t netstate.Holder) bool { return t.ID.PID == k.PID })
	})
	if rest.Count -= len(hi.Group.First) - len(rest.First); len(rest.First) == 0 {
		rest.Count = 0 // whoever is left cannot be named, and may be named above
	}
	return rest
}

// listed names the first of a sample: "a, b and 3 more".
func listed[T any](s netstate.Sample[T], text func(T) string) string {
	words := make([]string, 0, shown+1)
	for _, v := range s.First[:min(shown, len(s.First))] {
		words = append(words, text(v))
	}
	switch left := s.Count - len(words); {
	case left > 0 && s.AtLeast:
		words = append(words, fmt.Sprintf("at least %d more", left))
	case left > 0:
		words = append(words, fmt.Sprintf("%d more", left))
	case s.AtLeast:
		words = append(words, "perhaps more")
	}
	return joined(words)
}

func joined(words []string) string {
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " and " + words[n]
	}
	return strings.Join(words, "")
}

// clientsRisk names who is cut off: a program on this machine by its name, and
// another one by its address.
func clientsRisk(clients netstate.Sample[netstate.Client], targets []netstate.Holder) string {
	if clients.Count == 0 {
		return ""
	}
	type group struct {
		who   string
		n     int
		where bool // an address stands for whoever is behind it
	}
	var groups []group
	for _, c := range clients.First {
		g := group{who: c.Remote.Addr().String(), where: true}
		switch {
		case len(c.Holders) > 0:
			g = group{who: name(clientHolder(c.Holders, targets))}
		case c.Here == netstate.Yes:
			g = group{who: "a process here that this user may not see", where: true}
		}
		if i := slices.IndexFunc(groups, func(other group) bool { return other.who == g.who }); i >= 0 {
			groups[i].n++
		} else {
			g.n = 1
			groups = append(groups, g)
		}
	}
	words := make([]string, 0, shown+1)
	for _, g := range groups[:min(shown, len(groups))] {
		switch {
		case !g.where && g.n == 1:
			words = append(words, g.who)
		case !g.where:
			words = append(words, fmt.Sprintf("%s (%d)", g.who, g.n))
		case g.n == 1:
			words = append(words, "one from "+g.who)
		default:
			words = append(words, fmt.Sprintf("%d from %s", g.n, g.who))
		}
	}
	if len(groups) > shown || clients.Count > len(clients.First) {
		words = append(words, "others")
	}
	what := count(clients.Count, "connection", "connections")
	if clients.Count == len(groups) {
		what = count(clients.Count, "client", "clients")
	}
	return fmt.Sprintf("%s will be cut off: %s", what, joined(words))
}

// clientHolder picks who is told for a connection that several processes have
// open: one that goes on.
func clientHolder(holders, targets []netstate.Holder) netstate.Holder {
	for _, h := range holders {
		if !slices.ContainsFunc(targets, func(t netstate.Holder) bool { return t.ID == h.ID }) {
			return h
		}
	}
	return holders[0]
}

// keepers are programs under which others run, which would end or stay without
// them.
var keepers = map[string]string{
	"tmux": "the server of all tmux windows", "tmux: server": "the server of all tmux windows", "screen": "the server of all screen windows",
	"supervisord": "the supervisor of other programs", "runsvdir": "the supervisor of other programs", "runsv": "the supervisor of another program",
	"s6-svscan": "the supervisor of other programs", "s6-supervise": "the supervisor of another program", "svscan": "the supervisor of other programs",
	"foreman: master": "the runner of a whole Procfile", "conmon": "the monitor of a container", "dropbear": "the ssh server, perhaps the only way into this machine",
	"influxd": "a database", "cockroach": "a database", "couchdb": "a database", "sqlservr": "a database", "neo4j": "a database", "beam.smp": "a database or a message broker",
	"NetworkManager": "this machine's network", "Xorg": "the screen of a session", "Xwayland": "the screen of a session",
}

// typedInPlace says why a target needs its name typed for what it is to
// others, beyond whose it is (typed): a shell next to the one that berth was
// started from, or a process that much more than the port hangs on. session is
// berth's own, 0 if it is not known.
func (s Self) typedInPlace(h netstate.Holder, im netstate.HolderImpact, session int) string {
	ofAncestor := len(h.Parents) > 0 && h.Parents[0].PID > 1 && slices.Contains(s.Ancestors, h.Parents[0].PID)
	switch {
	case netstate.IsShell(h.Name) && session > 0 && im.Session == session:
		return name(h) + " is a shell in this terminal"
	case netstate.IsShell(h.Name) && ofAncestor:
		return name(h) + " is a shell beside this one"
	case keepers[h.Name] != "":
		return name(h) + " is " + keepers[h.Name]
	case strings.HasPrefix(h.Name, "systemd-"):
		return name(h) + " is a part of the system"
	}
	return ""
}
