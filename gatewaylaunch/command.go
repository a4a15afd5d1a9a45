package gatewaylaunch

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"berth/netstate"
)

// Command is the command that starts the gateway.
type Command struct {
	// Argv is the program and its arguments. Words of the form NAME=value
	// before the program are set in its environment, as a shell does.
	Argv []string
	// Dir is the working directory; empty means this process's own.
	Dir string
	// Env is the environment in the form of os.Environ; nil means this
	// process's own. Either way the gateway does not inherit what tells a
	// program that systemd started it.
	Env []string
	// User is whose rights the gateway gets; nil means this process's own.
	// Only root can give another's.
	User *User
}

// User is a user as far as a process needs one.
type User struct {
	Name, Home string
	UID, GID   uint32
	Groups     []uint32 // all of them
}

// supervised names the variables by which systemd and OpenClaw tell a program
// that a service manager started it. A gateway that believes so exits with
// another status or retries for minutes, and this process is no such manager.
var supervised = []string{"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "OPENCLAW_SYSTEMD_UNIT"}

// environ returns the gateway's environment: Env without the variables of a
// service manager, then those of the user, then the assignments of the command
// itself. The last of a name counts.
func (c Command) environ() []string {
	env := c.Env
	if env == nil {
		env = os.Environ()
	}
	clean := make([]string, 0, len(env))
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.Contains(supervised, name) {
			clean = append(clean, kv)
		}
	}
	if c.User != nil {
		// A server that finds root's HOME would write there, or fail to.
		clean = append(clean, "HOME="+c.User.Home, "USER="+c.User.Name, "LOGNAME="+c.User.Name)
	}
	assignments, _ := splitAssignments(c.Argv)
	return append(clean, assignments...)
}

// String returns the command as a person would type it into a shell.
func (c Command) String() string { return shellJoin(c.Argv) }

func shellJoin(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = w; w == "" || strings.ContainsAny(w, " \t\r\n'\"\\$`*?[]{}()<>|&;#~!") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// IsAssignment reports whether a word before the program sets a variable.
func IsAssignment(word string) bool { return isAssignment(word) }

// AlsoOf is where else a command's server listens, as far as that is known:
// OpenClaw's loopback has two addresses.
func AlsoOf(argv []string) []netip.Addr {
	if host, ok := HostOf(argv); ok && host == "loopback" && parseWords(argv).openclaw() {
		return []netip.Addr{netip.IPv6Loopback()}
	}
	return nil
}

// splitAssignments separates the leading NAME=value words from the program.
func splitAssignments(argv []string) (assignments, program []string) {
	n := 0
	for n < len(argv) && isAssignment(argv[n]) {
		n++
	}
	return argv[:n:n], argv[n:]
}

func isAssignment(word string) bool {
	name, _, ok := strings.Cut(word, "=")
	if !ok || name == "" || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	for _, c := range name {
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// PortOf tells the port that a command is going to listen on, as far as its
// words say: --port N, --port=N, -p N, the port in an address option, PORT=N
// before the program, the argument of python -m http.server, and for OpenClaw's
// gateway its default. env is the
// environment that the command will run in; only an OpenClaw command's own
// OPENCLAW_GATEWAY_PORT is taken from it, since a stray PORT there says nothing
// about this program. It returns false if nothing says a port.
func PortOf(argv, env []string) (uint16, bool) {
	w := parseWords(argv)
	if p, ok := lastPort(w.options("port", "p")); ok {
		return p, true
	}
	if _, p, ok := w.listenAddress(); ok && p != 0 {
		return p, true
	}
	if p, ok := lastPort(variable(w.assignments, "PORT")); ok {
		return p, true
	}
	if w.openclaw() {
		if p, ok := lastPort(append(variable(env, "OPENCLAW_GATEWAY_PORT"), variable(w.assignments, "OPENCLAW_GATEWAY_PORT")...)); ok {
			return p, true
		}
		return netstate.DefaultPort, true
	}
	if args, ok := w.httpServer(); ok {
		return httpServerPort(args)
	}
	return 0, false
}

// HostOf tells the host that a command is going to bind, in a form that
// netstate.ResolveHost takes: the value of --host, --bind, -b, --address or
// --listen, without its port. It returns false if nothing says a host.
func HostOf(argv []string) (string, bool) {
	w := parseWords(argv)
	if host, _, ok := w.listenAddress(); ok && host != "" {
		return host, true
	}
	if _, ok := w.httpServer(); ok {
		return "any", true // the default of python -m http.server
	}
	return "", false
}

// words is a command line taken apart.
type words struct {
	assignments []string // NAME=value words before the program, also behind env(1)
	program     []string // the program and its arguments
}

func parseWords(argv []string) words {
	assignments, program := splitAssignments(argv)
	if len(program) == 0 || filepath.Base(program[0]) != "env" {
		return words{assignments, program}
	}
	for rest := program[1:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case rest[0] == "-u" || rest[0] == "-C": // these take an argument
			rest = rest[min(1, len(rest)-1):]
		case isAssignment(rest[0]):
			assignments = append(assignments, rest[0])
		case !strings.HasPrefix(rest[0], "-"):
			return words{assignments, rest}
		}
	}
	return words{assignments, nil}
}

// options returns the values of the named options in the order in which they
// appear: --name V, --name=V, and with one dash, since Go's flags have one.
// Words after "--" count too: npm run dev -- --port 3000.
func (w words) options(names ...string) []string {
	var values []string
	for i := 1; i < len(w.program); i++ {
		word := w.program[i]
		name, value, inline := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if !strings.HasPrefix(word, "-") || !slices.Contains(names, name) {
			continue
		}
		if !inline {
			if i+1 == len(w.program) || strings.HasPrefix(w.program[i+1], "-") {
				continue // an option without a value
			}
			i++
			value = w.program[i]
		}
		values = append(values, value)
	}
	return values
}

// listenAddress returns the host and the port that the address options say;
// port is 0 and host empty if they do not tell.
func (w words) listenAddress() (host string, port uint16, ok bool) {
	for _, value := range w.options("host", "hostname", "bind", "b", "address", "addr", "listen") {
		if w.openclaw() {
			if h := openclawHost(value); h != "" {
				host, ok = h, true
			}
			continue
		}
		if h, p := splitAddress(value); h != "" || p != 0 {
			host, port, ok = h, p, true
		}
	}
	return host, port, ok
}

// openclawHost translates the values of openclaw's --bind. The others (auto,
// tailnet, custom) are decided by its configuration.
func openclawHost(bind string) string {
	switch bind {
	case "loopback":
		return "loopback"
	case "lan":
		return "any"
	}
	return ""
}

// splitAddress reads "127.0.0.1:80", "[::1]:80", ":80", "tcp://0.0.0.0:80",
// "0.0.0.0" and "localhost".
func splitAddress(value string) (host string, port uint16) {
	if scheme, rest, ok := strings.Cut(value, "://"); ok {
		if scheme == "unix" || scheme == "fd" {
			return "", 0
		}
		value = strings.TrimSuffix(rest, "/")
	}
	if strings.HasPrefix(value, "unix:") || strings.ContainsAny(value, "/ ") {
		return "", 0
	}
	if h, p, err := net.SplitHostPort(value); err == nil {
		port, err := netstate.ParsePort(p)
		if err != nil {
			return "", 0
		}
		if h == "" || h == "*" {
			h = "any"
		}
		return h, port
	}
	if _, err := strconv.Atoi(value); err == nil {
		// A number is a port for some programs (serve --listen 3000) and a
		// count for others (ab -b 5), so it tells nothing.
		return "", 0
	}
	return value, 0
}

// openclaw reports whether the command is OpenClaw's own, also when a runner
// starts it: npx openclaw, node openclaw.mjs.
func (w words) openclaw() bool {
	for _, word := range w.program[:min(3, len(w.program))] {
		base := filepath.Base(word)
		switch strings.TrimSuffix(base, filepath.Ext(base)) {
		case "openclaw", "openclaw-gateway":
			return true
		}
	}
	return false
}

// httpServer returns the arguments of python -m http.server.
func (w words) httpServer() ([]string, bool) {
	for i := 1; i+1 < len(w.program); i++ {
		if w.program[i] == "-m" && w.program[i+1] == "http.server" {
			return w.program[i+2:], true
		}
	}
	return nil, false
}

// httpServerPort reads the positional port; every option of http.server but
// --cgi and --help takes an argument. Without one it is 8000.
func httpServerPort(args []string) (uint16, bool) {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--cgi" || strings.Contains(arg, "="):
		case strings.HasPrefix(arg, "-"):
			i++
		default:
			p, err := netstate.ParsePort(arg)
			return p, err == nil
		}
	}
	return 8000, true
}

// variable returns the values of an environment variable, the last of which
// counts.
func variable(env []string, name string) []string {
	var values []string
	for _, kv := range env {
		if n, v, ok := strings.Cut(kv, "="); ok && n == name {
			values = append(values, v)
		}
	}
	return values
}

// lastPort returns the last of the values that is a port, since programs let
// a later option win.
func lastPort(values []string) (uint16, bool) {
	for _, v := range slices.Backward(values) {
		if p, err := netstate.ParsePort(v); err == nil {
			return p, true
		}
	}
	return 0, false
}
