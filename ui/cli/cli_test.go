package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
)

// result is what one run of the command line gave.
type result struct {
	status   int
	out, err string
}

// berth runs the command line in this process, without a terminal.
func berth(t *testing.T, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	status := Main(t.Context(), args, std(&out, &err))
	return result{status, out.String(), err.String()}
}

// std has no terminal, an empty standard input and a UTF-8 locale.
func std(out, err io.Writer) IO {
	return IO{In: strings.NewReader(""), Out: out, Err: err, Environ: append(os.Environ(), "LC_ALL=C.UTF-8", "NO_COLOR=", "CLICOLOR_FORCE=", "ACCESSIBLE=", "TERM=xterm")}
}

// is checks the status and that the two streams contain these texts. An empty
// text means that the stream must be empty.
func (r result) is(t *testing.T, status int, out, err string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	for _, s := range []struct{ name, got, want string }{{"stdout", r.out, out}, {"stderr", r.err, err}} {
		if s.want == "" && s.got != "" || !strings.Contains(s.got, s.want) {
			t.Errorf("%s is %q, want %q", s.name, s.got, s.want)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", r.out, r.err)
	}
}

// object decodes the one line of JSON on standard output.
func (r result) object(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || strings.Count(r.out, "\n") != 1 {
		t.Fatalf("not one line of JSON (%v): %q\nstderr: %s", err, r.out, r.err)
	}
	return v
}

// Every mistake on the command line is one sentence, without a period, and
// ends with status 2.
func TestUsage(t *testing.T) {
	tests := []struct {
		args string
		says string // the lines on standard error
	}{
		{"frobnicate", "berth: \"frobnicate\" is neither a verb nor a port\nberth: hint: see berth --help\n"},
		{"lsit", "berth: \"lsit\" is neither a verb nor a port\nberth: hint: did you mean berth list?\n"},
		{"0", "berth: port \"0\" is not a number from 1 to 65535\n"},
		{"8080 9090", "berth: berth takes one port, and \"9090\" is one more argument\nberth: hint: a command stands behind --, as in: berth 8080 -- node server.js\n"},
		{"8080 --", "berth: there is no command behind --\nberth: hint: for example: berth 8080 -- node server.js\n"},
		{"--bogus", "berth: unknown flag: --bogus\nberth: hint: see berth --help\n"},
		{"--theme pink list", "berth: no theme is called \"pink\": use ansi or mono\n"},
		{"why", "berth: why needs a port\nberth: hint: for example: berth why 18789\n"},
		{"why 65536", "berth: port \"65536\" is not a number from 1 to 65535\n"},
		{"why -- -1", "berth: port \"-1\" is not a number from 1 to 65535\n"},
		{"why 80a", "berth: port \"80a\" is not a number from 1 to 65535\n"},
		{"why 80 81", "berth: why takes one port, not 2 arguments\n"},
		{"why 80 --bogus", "berth: unknown flag: --bogus\nberth: hint: see berth why --help\n"},
		{"run --retry-for 1s --retries 3 -- x", "berth: --retries counts attempts and --retry-for gives their time, and they cannot both hold\nberth: hint: leave one of them out\n"},
		{"run --ready-body x -- x", "berth: --ready-body needs a --ready\nberth: hint: for example: --ready /healthz\n"},
		{"run --ready ftp://x -- x", "berth: --ready cannot be \"ftp://x\": it must begin with http://, https:// or /\nberth: hint: for example: --ready http://127.0.0.1:8080/healthz\n"},
		{"run --env 1=2 -- x", "berth: --env \"1=2\" is not of the form NAME=VALUE\nberth: hint: for example: --env NODE_ENV=production\n"},
		{"run --retry-for=-1s -- x", "berth: --retry-for is -1s, and cannot be negative\n"},
		{"free", "berth: free needs a port\nberth: hint: for example: berth free 18789\n"},
		{"free 80 --grace=-1s", "berth: --grace is -1s, and cannot be negative\n"},
		{"free 80 --grace=long", "berth: --grace cannot be \"long\": it takes a time such as 500ms or 3s\nberth: hint: see berth free --help\n"},
		{"wait 80 --timeout=-1s", "berth: --timeout is -1s, and cannot be negative\n"},
		{"wait 80 --interval=0s", "berth: --interval is 0s, and must be above zero\n"},
		{"list 80", "berth: list takes no argument, and \"80\" is one\nberth: hint: see berth list --help\n"},
		{"list --state LISTENING", "berth: no state is called \"LISTENING\": use a name as ss prints it, such as LISTEN or TIME-WAIT\n"},
		{"list --port 0", "berth: port \"0\" is not a number from 1 to 65535\n"},
		{"run", "berth: run needs a command\nberth: hint: for example: berth run --port 8080 -- node server.js\n"},
		{"run --port 99999 -- true", "berth: port \"99999\" is not a number from 1 to 65535\n"},
		{"run --port= -- true", "berth: --port is empty\n"},
		{"run --retries=-1 -- true", "berth: --retries is -1, and cannot be negative\n"},
		{"run --ready-timeout=0s -- true", "berth: --ready-timeout is 0s, and must be above zero\n"},
		{"demo shop", "berth: no demo is called \"shop\"\nberth: hint: try berth demo gateway\n"},
		{"demo gateway --port x", "berth: port \"x\" is not a number from 1 to 65535\n"},
		{"version 2", "berth: version takes no argument, and \"2\" is one\nberth: hint: see berth version --help\n"},
		{"8080 -- node server.js", "berth: the full-screen interface, which would start the command, needs a terminal\nberth: hint: berth run -- COMMAND starts it in the foreground\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			r := berth(t, strings.Fields(tt.args)...)
			if r.status != 2 || r.out != "" || r.err != tt.says {
				t.Errorf("status %d, stdout %q, stderr %q\nwant 2 and %q", r.status, r.out, r.err, tt.says)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	berth(t, "version").is(t, 0, "berth ", "")
	v := berth(t, "version", "--json").object(t)
	if v["schema"] != 1.0 || v["version"] == "" || !strings.HasPrefix(v["go"].(string), "go1.") || !strings.Contains(v["platform"].(string), "/") {
		t.Errorf("version --json is %v", v)
	}
}

func TestHelpIsAnAnswer(t *testing.T) {
	for _, args := range []string{"--help", "help", "help why", "run --help", "demo", "completion bash"} {
		r := berth(t, strings.Fields(args)...)
		if r.status != 0 || r.out == "" || r.err != "" {
			t.Errorf("berth %s: status %d, %d bytes on stdout, stderr %q", args, r.status, len(r.out), r.err)
		}
	}
}

// A verb that is run is the only one that is built, which must not show.
func TestOneVerbLooksLikeAll(t *testing.T) {
	for _, verb := range verbs {
		alone, among := berth(t, verb, "--help"), berth(t, "help", verb)
		if alone != among || alone.status != 0 || alone.out == "" {
			t.Errorf("berth %s --help is %+v\nand berth help %s is %+v", verb, alone, verb, among)
		}
	}
	if r := berth(t, "completion", "bash"); r.status != 0 || r.out == "" {
		t.Errorf("berth completion bash is %+v", r)
	}
	r := berth(t, "__complete", "")
	for _, verb := range append([]string{"completion", "help"}, verbs...) {
		if !strings.Contains("\n"+r.out, "\n"+verb+"\t") {
			t.Errorf("the shell is not told of %s: %q", verb, r.out)
		}
	}
}

// A host that cannot be bound here is status 8, with what to give instead.
func TestHostThatIsNotHere(t *testing.T) {
	const host = "no-such-host.invalid"
	for _, args := range []string{"why 8080", "free 8080", "wait 8080", "list", "8080", "run --port 8080", "demo gateway"} {
		words := append(strings.Fields(args), "--host", host)
		if strings.HasPrefix(args, "run") {
			words = append(words, "--", "true")
		}
		berth(t, words...).is(t, 8, "",
			"berth: host \"no-such-host.invalid\" does not resolve to an address and is not an interface\nberth: hint: give an address of this machine, loopback, any, or an interface's name\n")
	}
}

// The look follows the flags, then the environment.
func TestASCII(t *testing.T) {
	r := berth(t, "list", "--ascii")
	for _, c := range r.out {
		if c > 0x7e {
			t.Errorf("--ascii shows %q", c)
		}
	}
}
