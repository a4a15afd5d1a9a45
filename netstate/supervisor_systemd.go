package netstate

import (
	"slices"
	"strconv"
	"strings"
)

// isSystemd recognises the manager of the system and those of users.
func isSystemd(name string) bool { return name == "systemd" }

// systemdService recognises a unit from the holder's control group, and socket
// activation from its environment (sd_listen_fds(3)).
func systemdService(h *Holder, r processReader) *Supervisor {
	manager, uid := managerIn(r.cgroup(h.ID.PID), h.Unit)
	s := &Supervisor{Kind: manager, Name: h.Unit}
	// Its manager is the nearest one: a container may have its own.
	if i := slices.IndexFunc(h.Parents, func(p Parent) bool { return isSystemd(p.Name) }); i >= 0 {
		s.PID = h.Parents[i].PID
	}
	var user *account
	if manager == SupervisorSystemdUser {
		name := h.User
		if h.UID != uid {
			name = "" // it has become another user since
		}
		user = userManager(uid, name, r.asker())
	}
	s.Stop = systemctl(user, "stop", h.Unit)
	s.Restart = systemctl(user, "restart", h.Unit)
	if sockets, ok := activation(h.ID.PID, r.environ(h.ID.PID)); ok {
		s.HoldsPort = true
		s.Restarts = Yes // by the next client
		s.Stop = ""      // the socket's name is needed for it
		if len(sockets) > 0 {
			s.Stop = systemctl(user, "stop", append(sockets, h.Unit)...)
		} else {
			s.Find = systemctl(user, "list-sockets")
		}
	}
	return s
}

// activation reports whether systemd handed sockets to this very process, and
// by which units. The variables are inherited, so the number in them decides.
func activation(pid int, env map[string]string) (sockets []string, ok bool) {
	if env["LISTEN_PID"] != strconv.Itoa(pid) || env["LISTEN_FDS"] == "" || env["LISTEN_FDS"] == "0" {
		return nil, false
	}
	for name := range strings.SplitSeq(env["LISTEN_FDNAMES"], ":") {
		// A descriptor has the name of its unit unless the unit gives another.
		if strings.HasSuffix(name, ".socket") && !slices.Contains(sockets, name) {
			sockets = append(sockets, name)
		}
	}
	return sockets, true
}

// managerIn says which manager a unit belongs to: all units of a user lie
// below user@UID.service.
func managerIn(cgroup, unit string) (kind SupervisorKind, uid int) {
	for line := range strings.Lines(cgroup) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || parts[0] != "0" && parts[1] != "name=systemd" {
			continue
		}
		before, _, found := strings.Cut(parts[2], "/"+unit)
		if !found {
			continue
		}
		for _, group := range slices.Backward(strings.Split(before, "/")) {
			if number, ok := strings.CutPrefix(group, "user@"); ok {
				if uid, err := strconv.Atoi(strings.TrimSuffix(number, ".service")); err == nil {
					return SupervisorSystemdUser, uid
				}
			}
		}
	}
	return SupervisorSystemd, 0
}

// account is the user whose manager a command is for.
type account struct {
	name string
	own  bool // the asker's
}

func userManager(uid int, name string, a asker) *account {
	return &account{name: name, own: uid >= 0 && uid == a.uid}
}

// systemctl makes a command for the system's manager (nil) or a user's. It is
// empty if a name in it is not known or cannot be typed.
func systemctl(user *account, verb string, units ...string) string {
	text := "systemctl"
	switch {
	case user != nil && user.own:
		text += " --user"
	case user != nil:
		if operand(user.name) == "" {
			return ""
		}
		text += " --user -M " + operand(user.name+"@")
	}
	text += " " + verb
	for _, u := range units {
		if text = command(text, u); text == "" {
			return ""
		}
	}
	return text
}
