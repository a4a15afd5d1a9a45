package netstate

import (
	"strconv"
	"strings"
	"time"
)

// SupervisorKind is the program that supervises, by the name that people know
// it by.
type SupervisorKind string

// The supervisors that are recognised. Watchers (nodemon, air …) have the name
// of their program.
const (
	SupervisorSystemd     SupervisorKind = "systemd"        // the system's manager
	SupervisorSystemdUser SupervisorKind = "systemd --user" // a user's own manager
	SupervisorLaunchd     SupervisorKind = "launchd"
	SupervisorSupervisord SupervisorKind = "supervisord"
	SupervisorPM2         SupervisorKind = "pm2"
	SupervisorDocker      SupervisorKind = "docker"
	SupervisorPodman      SupervisorKind = "podman"
	SupervisorKubernetes  SupervisorKind = "kubernetes"
	SupervisorS6          SupervisorKind = "s6"
	SupervisorRunit       SupervisorKind = "runit"
	SupervisorDaemontools SupervisorKind = "daemontools"
	SupervisorOpenRC      SupervisorKind = "openrc"
)

// Supervisor is what will start a holder again after it was stopped, or what
// expects to be asked before it is stopped. All text comes from other
// processes and must be cleaned before it reaches a terminal; the commands are
// quoted for a POSIX shell, and empty where a name could not be shown in one
// truthfully.
type Supervisor struct {
	Kind SupervisorKind
	// Name is what the supervisor calls the holder: the unit, service,
	// program or container. It is empty if that cannot be found out.
	Name string
	// PID is the supervising process, 0 if it is not known.
	PID int
	// Stop ends the holder so that it stays away, Restart replaces it. Each is
	// empty if there is no such command or it is not known.
	Stop, Restart string
	// Find lists what the supervisor has, for a person to find the Name in;
	// empty if Name is known.
	Find string
	// Restarts says whether it will start the holder again by itself.
	Restarts Tri
	// Delay is how long it waits before that, where it is written down; 0 if it
	// is not known.
	Delay time.Duration
	// OnChange: it does so when a file changes, not as soon as the holder ends.
	OnChange bool
	// HoldsPort: the supervisor has the listening socket itself (socket
	// activation), so that the end of the holder frees nothing.
	HoldsPort bool
}

// processReader reads single facts of processes, each only when recognition
// asks for it. What may not be read is empty, and an environment nil.
type processReader interface {
	cmdline(pid int) []string
	cwd(pid int) string
	environ(pid int) map[string]string
	// cgroup is the text of /proc/PID/cgroup.
	cgroup(pid int) string
	// pod returns the namespace and the name of a Kubernetes pod.
	pod(uid string) (namespace, name string)
	asker() asker
}

// asker is who would type the commands.
type asker struct {
	uid       int
	container string // as Holder.Container; empty outside of any
}

// recognise says who supervises a holder whose other facts are read, or nil.
// The innermost supervisor counts: a unit that runs supervisord does not
// restart supervisord's programs.
func recognise(h *Holder, r processReader) *Supervisor {
	if s := standIn(h, r); s != nil {
		return s
	}
	s, session := supervisorAbove(h, r)
	switch {
	case s != nil:
		return fromOutside(s, h, r)
	case session:
		return nil // somebody started it by hand
	case strings.HasSuffix(h.Unit, ".service"):
		return fromOutside(systemdService(h, r), h, r)
	case h.Container != "":
		return containerEngine(h, r)
	}
	return launchd(h, r)
}

// standIn recognises holders that hold a port for somebody else, so that the
// process itself is never what a person wants to stop.
func standIn(h *Holder, r processReader) *Supervisor {
	switch program := baseName(first(h.Cmdline)); {
	case isSystemd(h.Name):
		// The unit depends on the port, which is not known here: see
		// System.Explain.
		s := &Supervisor{Kind: SupervisorSystemd, PID: h.ID.PID, Restarts: Yes, HoldsPort: true, Find: "systemctl list-sockets"}
		// The first process of a container has another number out here.
		if h.ID.PID != 1 && h.Container == "" {
			s.Kind, s.Find = SupervisorSystemdUser, systemctl(userManager(h.UID, h.User, r.asker()), "list-sockets")
		}
		return fromOutside(s, h, r)
	case h.Name == "docker-proxy" || program == "docker-proxy":
		return dockerProxy(h.Cmdline)
	case h.Name == "rootlessport" || program == "rootlessport":
		return &Supervisor{Kind: SupervisorPodman, Find: "podman ps", HoldsPort: true}
	case h.Name == "conmon" || program == "conmon":
		return conmon(h)
	case isPM2(h.Name):
		// In cluster mode the daemon listens for its workers.
		return &Supervisor{Kind: SupervisorPM2, PID: h.ID.PID, HoldsPort: true, Restarts: Yes,
			Find: pm2Command(h, pm2Home(h.Cmdline), r, "list")}
	}
	return nil
}

// launchd starts every daemon of macOS itself and tells it its label. A
// program that lost its parent belongs to process 1 too, without a label of
// its own.
func launchd(h *Holder, r processReader) *Supervisor {
	if len(h.Parents) == 0 || h.Parents[0].PID != 1 || h.Parents[0].Name != "launchd" {
		return nil
	}
	label := r.environ(h.ID.PID)["XPC_SERVICE_NAME"]
	if label == "" || label == "0" || strings.HasPrefix(label, "application.") {
		return nil
	}
	// Accounts of people begin at 501; daemons run below it.
	domain := "system/"
	if h.UID >= 501 {
		domain = "gui/" + strconv.Itoa(h.UID) + "/"
	}
	return &Supervisor{Kind: SupervisorLaunchd, Name: label, PID: 1,
		Stop: command("launchctl bootout", domain+label), Restart: command("launchctl kickstart -k", domain+label)}
}

// fromOutside makes the commands of a supervisor that runs inside a container
// work from outside of it.
func fromOutside(s *Supervisor, h *Holder, r processReader) *Supervisor {
	own := r.asker().container
	if h.Container == "" || h.Container == own {
		return s
	}
	engine, id, _ := strings.Cut(h.Container, " ")
	enter := ""
	switch engine {
	case "docker", "podman", "nerdctl":
		enter = command(engine+" exec", id)
	case "lxc":
		if enter = command("lxc-attach -n", id); enter != "" {
			enter += " --"
		}
	case "machine", "systemd-nspawn":
		enter = command("systemd-run -P -q -M", id)
	}
	for _, c := range []*string{&s.Stop, &s.Restart, &s.Find} {
		switch {
		case *c == "" || strings.HasPrefix(*c, killCommand):
			// A pid is the one that is seen from here.
		case enter == "":
			*c = "" // nothing that could be typed here
		default:
			*c = enter + " " + *c
		}
	}
	return s
}

// command joins words, which are already fit for a shell, with one name that
// some other process chose. It returns "" if the name cannot stand there.
func command(words, name string) string {
	if name = operand(name); name == "" {
		return ""
	}
	return words + " " + name
}

// operand makes a name one word of a POSIX shell. It is empty if there is no
// name, if it could be taken for an option, or if it has characters that a
// terminal would not show.
func operand(name string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-"
	switch {
	case name == "" || name[0] == '-' || PlainName(name) != name:
		return ""
	case strings.Trim(name, plain) == "":
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
