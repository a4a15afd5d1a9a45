package netstate

import (
	"path"
	"strconv"
	"strings"
)

// supervisorAbove looks for a supervisor among the holder's ancestors, from
// the nearest. session reports that it met a person's shell or what starts
// sessions first: whatever is above does not supervise the holder, and neither
// does the unit that the session happens to be in.
func supervisorAbove(h *Holder, r processReader) (s *Supervisor, session bool) {
	for _, p := range h.Parents {
		if isSystemd(p.Name) || p.Name == "launchd" || holdsContainer(p.Name) {
			return nil, false
		}
		var cmdline []string
		if isTelling(p.Name) {
			cmdline = r.cmdline(p.PID)
		}
		if s := asSupervisor(p, cmdline, h, r); s != nil {
			return s, false
		}
		if startsSessions(p.Name) || isInteractiveShell(cmdline) {
			return nil, true
		}
	}
	return nil, false
}

// holdsContainer recognises the processes right above a container's first.
func holdsContainer(name string) bool {
	return strings.HasPrefix(name, "containerd-shim") || name == "conmon" || name == "lxc-start"
}

// startsSessions recognises what runs commands because a person, or a table
// of times, said so. tmux calls its server "tmux: server".
func startsSessions(name string) bool {
	switch strings.ToLower(name) {
	case "sshd", "sshd-session", "login", "screen", "tmux", "tmux: server", "cron", "crond", "atd":
		return true
	}
	return false
}

var shells = map[string]bool{
	"sh": true, "ash": true, "bash": true, "dash": true, "ksh": true, "mksh": true, "zsh": true,
	"fish": true, "csh": true, "tcsh": true, "nu": true, "pwsh": true, "elvish": true,
}

// IsShell reports whether a process is a command shell, by its name.
func IsShell(name string) bool { return shells[strings.TrimPrefix(name, "-")] }

// isTelling reports whether the command line of a process with this name can
// say more than the name. Reading one costs as much as all else of a step, and
// most ancestors are of no interest.
func isTelling(name string) bool {
	switch name {
	case "supervisord", "runsv", "s6-supervise", "supervise", "supervise-daemo", "supervise-daemon":
		return true
	}
	return IsShell(name) || isInterpreter(name) || watchers[name] || procfileRunners[name] ||
		strings.HasPrefix(name, "foreman: ") || strings.HasPrefix(name, "tmux") || isPM2(name)
}

// isInterpreter reports whether the program that counts is an argument. Newer
// versions of node call their first thread MainThread.
func isInterpreter(name string) bool {
	switch name {
	case "node", "nodejs", "MainThread", "bun", "perl":
		return true
	}
	return strings.HasPrefix(name, "python") || strings.HasPrefix(name, "ruby")
}

// isInteractiveShell: a shell without a command or a script reads from a
// person.
func isInteractiveShell(cmdline []string) bool {
	if !shells[strings.TrimPrefix(baseName(first(cmdline)), "-")] {
		return false
	}
	for i := 1; i < len(cmdline); i++ {
		switch word := cmdline[i]; {
		case word == "--rcfile" || word == "--init-file":
			i++
		case strings.HasPrefix(word, "--"):
		case !strings.HasPrefix(word, "-") || strings.Contains(word, "c"):
			return false
		}
	}
	return true
}

// watchers start a program again when its files change.
var watchers = map[string]bool{
	"nodemon": true, "tsx": true, "ts-node-dev": true, "tsnd": true, "node-dev": true,
	"air": true, "watchexec": true, "cargo-watch": true, "entr": true, "reflex": true,
	"gow": true, "wgo": true, "CompileDaemon": true, "modd": true, "watchmedo": true, "watchfiles": true,
}

// procfileRunners stop all the programs of a Procfile when one of them ends,
// and start none again.
var procfileRunners = map[string]bool{"foreman": true, "hivemind": true, "honcho": true, "goreman": true}

const killCommand = "kill "

// asSupervisor says what the process p does for the holder below it, or nil.
func asSupervisor(p Parent, cmdline []string, h *Holder, r processReader) *Supervisor {
	program := programOf(cmdline)
	switch {
	case program == "":
		program = p.Name
	case strings.HasPrefix(program, "foreman: "):
		program = "foreman" // the title that it gives itself
	}
	// A service directory is its supervisor's working directory.
	service := func(kind SupervisorKind, stop, restart string) *Supervisor {
		if len(cmdline) < 2 {
			return nil
		}
		dir := r.cwd(p.PID)
		s := &Supervisor{Kind: kind, Name: path.Base(cmdline[1]), PID: p.PID, Restarts: Yes}
		s.Stop, s.Restart = command(stop, dir), command(restart, dir)
		return s
	}
	killed := func(kind SupervisorKind) *Supervisor {
		return &Supervisor{Kind: kind, PID: p.PID, Stop: killCommand + strconv.Itoa(p.PID)}
	}
	switch {
	case program == "supervisord" || p.Name == "supervisord":
		return supervisordProgram(p, cmdline, r.environ(h.ID.PID))
	case isPM2(p.Name):
		return pm2Program(p, cmdline, h, r)
	case program == "s6-supervise":
		return service(SupervisorS6, "s6-svc -d", "s6-svc -r")
	case program == "runsv":
		return service(SupervisorRunit, "sv down", "sv restart")
	case program == "supervise":
		return service(SupervisorDaemontools, "svc -d", "svc -t")
	case program == "supervise-daemon" && len(cmdline) > 1:
		s := &Supervisor{Kind: SupervisorOpenRC, Name: cmdline[1], PID: p.PID, Restarts: Yes}
		if name := operand(s.Name); name != "" {
			s.Stop, s.Restart = "rc-service "+name+" stop", "rc-service "+name+" restart"
		}
		return s
	case watchers[program] && (program != "tsx" || len(cmdline) > 2 && cmdline[2] == "watch"):
		s := killed(SupervisorKind(program))
		s.Restarts, s.OnChange = Yes, true
		return s
	case isNodeWatch(cmdline):
		s := killed("node --watch")
		s.Restarts, s.OnChange = Yes, true
		return s
	case procfileRunners[program]:
		s := killed(SupervisorKind(program))
		s.Name, s.Restarts = r.environ(h.ID.PID)["PS"], No
		return s
	case strings.HasPrefix(p.Name, "tmux") && strings.HasPrefix(options(cmdline)["L"], "overmind-"):
		s := &Supervisor{Kind: "overmind", Name: r.environ(h.ID.PID)["PS"], PID: p.PID}
		s.Stop, s.Restart = command("overmind stop", s.Name), command("overmind restart", s.Name)
		if s.Name == "" {
			s.Find = "overmind status"
		}
		return s
	}
	return nil
}

// programOf is the name of the program that a command line runs: that of the
// script, if the first word is an interpreter.
func programOf(cmdline []string) string {
	name := baseName(first(cmdline))
	if !isInterpreter(name) {
		return name
	}
	for i, word := range cmdline[1:] {
		switch {
		case word == "-m" && i+2 < len(cmdline):
			return cmdline[i+2]
		case strings.HasPrefix(word, "-"):
		case strings.HasSuffix(word, "/tsx/dist/cli.mjs"):
			return "tsx"
		default:
			word = baseName(word)
			return strings.TrimSuffix(word, path.Ext(word))
		}
	}
	return name
}

// isNodeWatch: the parent of a node that was started with --watch only waits
// for changes.
func isNodeWatch(cmdline []string) bool {
	if name := baseName(first(cmdline)); name != "node" && name != "nodejs" {
		return false
	}
	for _, word := range cmdline[1:] {
		if !strings.HasPrefix(word, "-") {
			return false
		}
		if word == "--watch" || strings.HasPrefix(word, "--watch-path") {
			return true
		}
	}
	return false
}

// supervisordProgram reads what supervisord tells its children. A program that
// ends with an expected status is not started again (autorestart=unexpected),
// so whether this one is depends on its configuration.
func supervisordProgram(p Parent, cmdline []string, env map[string]string) *Supervisor {
	s := &Supervisor{Kind: SupervisorSupervisord, Name: env["SUPERVISOR_PROCESS_NAME"], PID: p.PID}
	if group := env["SUPERVISOR_GROUP_NAME"]; s.Name != "" && group != "" && group != s.Name {
		s.Name = group + ":" + s.Name
	}
	// Its own configuration knows the password too, if there is one.
	ctl := "supervisorctl"
	value := options(cmdline)
	config := value["c"]
	if config == "" {
		config = value["configuration"]
	}
	if url := env["SUPERVISOR_SERVER_URL"]; path.IsAbs(config) && operand(config) != "" {
		ctl += " -c " + operand(config)
	} else if operand(url) != "" {
		ctl += " -s " + operand(url)
	}
	if s.Name == "" {
		s.Find = ctl + " status"
		return s
	}
	s.Stop, s.Restart = command(ctl+" stop", s.Name), command(ctl+" restart", s.Name)
	return s
}

// isPM2 recognises the daemon by the title that it gives itself, of which the
// kernel keeps 15 bytes: "PM2 v7.0.4: God Daemon (/home/alice/.pm2)".
func isPM2(name string) bool { return strings.HasPrefix(name, "PM2 v") }

func pm2Program(p Parent, cmdline []string, h *Holder, r processReader) *Supervisor {
	env := r.environ(h.ID.PID)
	s := &Supervisor{Kind: SupervisorPM2, PID: p.PID, Restarts: Yes}
	home := pm2Home(cmdline)
	if home == "" {
		home = env["PM2_HOME"]
	}
	id := env["pm_id"]
	if id == "" {
		s.Find = pm2Command(h, home, r, "list")
		return s
	}
	if s.Name = env["name"]; s.Name == "" {
		s.Name = id
	}
	s.Stop = command(pm2Command(h, home, r, "stop"), id)
	s.Restart = command(pm2Command(h, home, r, "restart"), id)
	return s
}

// pm2Home reads the directory from the daemon's title.
func pm2Home(cmdline []string) string {
	_, rest, _ := strings.Cut(first(cmdline), "God Daemon (")
	home, _, found := strings.Cut(rest, ")")
	if !found {
		return ""
	}
	return home
}

// pm2Command addresses the right daemon: each user has one, and each
// directory, of which ~/.pm2 is the usual one.
func pm2Command(h *Holder, home string, r processReader, verb string) string {
	text := "pm2 " + verb
	if usual := path.Join(r.environ(h.ID.PID)["HOME"], ".pm2"); home != usual && operand(home) != "" {
		text = "PM2_HOME=" + operand(home) + " " + text
	}
	if h.UID != r.asker().uid && operand(h.User) != "" {
		text = "sudo -u " + operand(h.User) + " " + text
	}
	return text
}
