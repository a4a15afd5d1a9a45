package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/netstate/netns"
)

// common are the flags of every verb.
type common struct {
	json, plain, noColor, ascii bool
	theme                       string
}

func (c *common) register(fs *pflag.FlagSet) {
	fs.BoolVar(&c.json, "json", false, "write JSON instead of text")
	fs.BoolVar(&c.plain, "plain", false, "whole sentences instead of tables, and no full-screen interface")
	fs.BoolVar(&c.noColor, "no-color", false, "no colour (as does the environment variable NO_COLOR)")
	fs.BoolVar(&c.ascii, "ascii", false, "only ASCII symbols")
	fs.StringVar(&c.theme, "theme", "", "look of the full-screen interface: ansi or mono (default ansi)")
}

// bind are the flags that describe the server's own bind.
type bind struct {
	host, user                   string
	reuseaddr, reuseport, v6only bool
}

const hostUsage = "address that the server binds: an IP address, loopback, any, or an interface's name (default loopback, 127.0.0.1)"

func (b *bind) register(fs *pflag.FlagSet) {
	fs.StringVar(&b.host, "host", "", hostUsage)
	fs.BoolVar(&b.reuseaddr, "reuseaddr", true, "the server sets SO_REUSEADDR, as Node and Go do for TCP (default false with --udp)")
	fs.BoolVar(&b.reuseport, "reuseport", false, "the server sets SO_REUSEPORT")
	fs.BoolVar(&b.v6only, "v6only", false, "the server sets IPV6_V6ONLY (default: only for a specific IPv6 address)")
}

// registerUser adds the flag of the verbs that only make binds. The others
// start or signal processes, which they do as the user who asks.
func (b *bind) registerUser(fs *pflag.FlagSet) {
	fs.StringVar(&b.user, "uid", "", "the user that the server runs as, a number or a name (root only; default you)")
}

// spec is the TCP bind in this process's own network namespace that the flags
// describe. An empty host means fallback, which may be empty too and then is
// 127.0.0.1.
func (b *bind) spec(ctx context.Context, flags *pflag.FlagSet, fallback string, port uint16) (netstate.BindSpec, error) {
	return b.specIn(ctx, flags, fallback, port, netstate.Scope{})
}

// specs are the binds that the flags describe in each of the scopes.
func (b *bind) specs(ctx context.Context, flags *pflag.FlagSet, port uint16, scopes []netstate.Scope) ([]netstate.BindSpec, error) {
	specs := make([]netstate.BindSpec, len(scopes))
	for i, scope := range scopes {
		var err error
		if specs[i], err = b.specIn(ctx, flags, "", port, scope); err != nil {
			return nil, err
		}
	}
	return specs, nil
}

func (b *bind) specIn(ctx context.Context, flags *pflag.FlagSet, fallback string, port uint16, scope netstate.Scope) (netstate.BindSpec, error) {
	host := b.host
	if host == "" {
		host = fallback
	}
	addr, err := resolveIn(ctx, scope, host)
	if err != nil {
		return netstate.BindSpec{}, err
	}
	spec := netstate.NewBindSpec(addr, port).In(scope)
	spec.ReusePort = b.reuseport
	if flags.Changed("reuseaddr") {
		spec.ReuseAddr = b.reuseaddr
	}
	if flags.Changed("v6only") {
		// An IPv4 socket has no such option, so it can only be off there.
		if b.v6only && spec.Family == netstate.INET {
			return netstate.BindSpec{}, usage("leave it out, or give an IPv6 host, such as --host ::", "--v6only needs an IPv6 host, and %s is none", spec.Host())
		}
		spec.V6Only = b.v6only
	}
	if flags.Changed("uid") {
		if spec.UID, err = uidOf(b.user); err != nil {
			return netstate.BindSpec{}, err
		}
	}
	return spec, netstate.MayBind(spec)
}

// resolveIn resolves a host inside the scope's network namespace, which has
// interfaces and addresses of its own.
func resolveIn(ctx context.Context, scope netstate.Scope, host string) (addr netip.Addr, err error) {
	err = scope.NetNS.Do(func() error {
		var err error
		addr, err = netstate.ResolveHost(ctx, host)
		return err
	})
	return addr, err
}

// where are the flags that choose among the sockets of the machine.
type where struct {
	netns string
	udp   bool
}

// onlyOwn is said to a user who may not enter the others.
const onlyOwn = "only berth's own network namespace is shown: run as root to see those of containers"

// everyNamespace is the value of --netns that means all of them.
const everyNamespace = "all"

func (w *where) register(fs *pflag.FlagSet) {
	w.registerNetNS(fs)
	fs.BoolVar(&w.udp, "udp", false, "UDP instead of TCP")
}

func (w *where) registerNetNS(fs *pflag.FlagSet) {
	fs.StringVar(&w.netns, "netns", "", "the network namespace to look in: of a process (PID), by name or container, or all (default berth's own)")
}

// scopes are what the flags choose, this process's own namespace first. If all
// are wanted and some may not be entered, note says so. The namespaces are kept
// until the program ends, which every verb does soon.
func (w *where) scopes(ctx context.Context) (scopes []netstate.Scope, note string, err error) {
	protocol := netstate.TCP
	if w.udp {
		protocol = netstate.UDP
	}
	scope := func(ns netns.Namespace) netstate.Scope { return netstate.Scope{Protocol: protocol, NetNS: ns} }
	switch w.netns {
	case "":
		return []netstate.Scope{scope(netns.Namespace{})}, "", nil
	case everyNamespace:
		all, err := netstate.Namespaces(ctx)
		if err != nil {
			return nil, "", err
		}
		scopes = []netstate.Scope{scope(netns.Namespace{})}
		closed := 0
		for _, ns := range all {
			ns, err := ns.Keep()
			if err == nil {
				err = ns.Do(func() error { return nil })
			}
			if err != nil {
				closed++
				continue
			}
			scopes = append(scopes, scope(ns))
		}
		if closed > 0 || os.Geteuid() != 0 {
			note = onlyOwn
		}
		return scopes, note, nil
	}
	ns, err := netstate.FindNamespace(ctx, w.netns)
	if errors.Is(err, netns.ErrUnknown) {
		return nil, "", usage("berth list --netns all shows what there is", "%w", err)
	}
	if err == nil {
		// What is done in there may end the process by which it was found.
		ns, err = ns.Keep()
	}
	return []netstate.Scope{scope(ns)}, "", err
}

// uidOf is the number of a user, who must exist: a mistyped one would get an
// answer that holds for nobody. The users of containers have no account out
// here, so a number that some process runs as will do too.
func uidOf(arg string) (uint32, error) {
	n, notNumber := strconv.ParseUint(arg, 10, 32)
	lookup := user.LookupId
	if notNumber != nil {
		lookup = user.Lookup
	}
	u, err := lookup(arg)
	switch {
	case err == nil:
		if n, err = strconv.ParseUint(u.Uid, 10, 32); err != nil {
			return 0, usage("", "--uid: users have no numbers on this system")
		}
	case notNumber != nil:
		return 0, usage("", "there is no user %q", arg)
	case !netstate.UserRuns(uint32(n)):
		return 0, usage("", "there is no user %d: no account has this number and no process runs as it", n)
	}
	return uint32(n), nil
}

// userOf is a user as a command needs one, who must have an account.
func userOf(arg string) (*gatewaylaunch.User, error) {
	lookup := user.Lookup
	if _, err := strconv.ParseUint(arg, 10, 32); err == nil {
		lookup = user.LookupId
	}
	u, err := lookup(arg)
	if err != nil {
		return nil, usage("", "--user: there is no user %q", arg)
	}
	numbers := []string{u.Uid, u.Gid}
	// Without its list of groups a user still has the first.
	if groups, err := u.GroupIds(); err == nil {
		numbers = append(numbers, groups...)
	}
	ids := make([]uint32, len(numbers))
	for i, text := range numbers {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, usage("", "--user: users have no numbers on this system")
		}
		ids[i] = uint32(n)
	}
	return &gatewaylaunch.User{Name: u.Username, Home: u.HomeDir, UID: ids[0], GID: ids[1], Groups: ids[2:]}, nil
}

// onePort takes exactly one argument, a port.
func onePort(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usage("for example: berth "+cmd.Name()+" 18789", "%s needs a port", cmd.Name())
	case len(args) > 1:
		return usage("", "%s takes one port, not %d arguments", cmd.Name(), len(args))
	}
	_, err := port(args[0])
	return err
}

// noArgs takes no argument.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("see berth "+cmd.Name()+" --help", "%s takes no argument, and %q is one", cmd.Name(), args[0])
	}
	return nil
}

func port(arg string) (uint16, error) {
	p, err := netstate.ParsePort(arg)
	if err != nil {
		return 0, usage("", "%w", err)
	}
	return p, nil
}

// notNegative refuses a duration below zero.
func notNegative(name string, d time.Duration) error {
	if d < 0 {
		return usage("", "--%s is %s, and cannot be negative", name, d)
	}
	return nil
}

// positive refuses a duration that is not above zero.
func positive(name string, d time.Duration) error {
	if d <= 0 {
		return usage("", "--%s is %s, and must be above zero", name, d)
	}
	return nil
}

// flagValues says what a flag of each type takes.
var flagValues = map[string]string{
	"bool":     "true or false, or 1 or 0",
	"int":      "a whole number",
	"duration": "a time such as 500ms or 3s",
	"signal":   "TERM, INT, HUP or QUIT",
}

// plainFlagError says what is wrong with a flag's value without the names of
// Go's parsing functions.
func plainFlagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	takes, ok := flagValues[bad.GetFlag().Value.Type()]
	if !ok {
		return err
	}
	return fmt.Errorf("--%s cannot be %q: it takes %s", bad.GetFlag().Name, bad.GetValue(), takes)
}
