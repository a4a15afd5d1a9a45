//go:build unix

package gatewaylaunch

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"berth/netstate"
)

// serversAll makes a server that is not installed a failure; .ci/servers
// installs all of them first.
var serversAll = flag.Bool("servers.all", false, "fail if one of the real servers is not installed")

// realServer is a server that others wrote: how it is started on a port of
// 127.0.0.1, with the files that it needs in its directory.
type realServer struct {
	name  string
	files map[string]string // in which PORT stands for the port
	argv  []string          // and DIR for the directory
	rust  bool              // only its words are real
}

var realServers = []realServer{
	{name: "go net", argv: helperCommand("serve", "127.0.0.1:PORT").Argv},
	{name: "python http.server", argv: []string{"python3", "-m", "http.server", "--bind", "127.0.0.1", "PORT"}},
	{name: "python http.server, every address", argv: []string{"python3", "-m", "http.server", "PORT"}},
	{name: "python socketserver", argv: []string{"python3", "-c", "import socketserver\nsocketserver.TCPServer(('127.0.0.1', PORT), socketserver.BaseRequestHandler)"}},
	{name: "python asyncio", argv: []string{"python3", "-c", "import asyncio\nasyncio.run(asyncio.start_server(print, '127.0.0.1', PORT))"}},
	{name: "gunicorn", argv: []string{"gunicorn", "--bind", "127.0.0.1:PORT", "app:app"}, files: map[string]string{"app.py": "def app(environ, start_response):\n    start_response('200 OK', [])\n    return []\n"}},
	{name: "node", argv: []string{"node", "-e", "require('http').createServer().listen(PORT, '127.0.0.1')"}},
	{name: "node, ::", argv: []string{"node", "-e", "require('http').createServer().listen(PORT)"}},
	{name: "java", argv: []string{"java", "A.java"}, files: map[string]string{"A.java": `class A { public static void main(String[] a) throws Exception {
	com.sun.net.httpserver.HttpServer.create(new java.net.InetSocketAddress("127.0.0.1", PORT), 0).start(); } }`}},
	{name: "php -S", argv: []string{"php", "-S", "127.0.0.1:PORT"}},
	{name: "ruby", argv: []string{"ruby", "-rsocket", "-e", "TCPServer.new('127.0.0.1', PORT)"}},
	{name: "nginx", argv: []string{"nginx", "-p", "DIR", "-c", "nginx.conf", "-e", "stderr"}, files: map[string]string{"nginx.conf": `daemon off;
pid nginx.pid;
events {}
http {
	access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
	server { listen 127.0.0.1:PORT; }
}
`}},
	{name: "redis-server", argv: []string{"redis-server", "--port", "PORT", "--bind", "127.0.0.1", "--save", ""}},
	{name: "haproxy", argv: []string{"haproxy", "-db", "-f", "haproxy.cfg"}, files: map[string]string{"haproxy.cfg": `defaults
	mode http
	timeout client 1s
	timeout server 1s
	timeout connect 1s
frontend f
	bind 127.0.0.1:PORT
	http-request return status 200
`}},
	{name: "apache2", argv: []string{"apache2", "-X", "-d", "DIR", "-f", "apache.conf"}, files: map[string]string{"apache.conf": `LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ServerName localhost
PidFile apache.pid
ErrorLog error.log
Listen 127.0.0.1:PORT
`}},
	{name: "socat", argv: []string{"socat", "TCP4-LISTEN:PORT,bind=127.0.0.1,reuseaddr", "STDIO"}},
	{name: "socat, no SO_REUSEADDR", argv: []string{"socat", "TCP4-LISTEN:PORT,bind=127.0.0.1", "STDIO"}},
	{name: "nc", argv: []string{"nc", "-l", "127.0.0.1", "PORT"}},
	{name: "rust's words", argv: []string{"sh", "-c", `echo 'called "Result::unwrap()" on an "Err" value: Os { code: 98, kind: AddrInUse, message: "Address already in use" }' >&2; exit 101`}, rust: true},
}

// command writes the server's files and returns its command on the port. The
// error says what is not installed.
func (s realServer) command(t *testing.T, port uint16) (Command, error) {
	t.Helper()
	dir := t.TempDir()
	fill := strings.NewReplacer("PORT", fmt.Sprint(port), "DIR", dir)
	for name, text := range s.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	argv := make([]string, len(s.argv))
	for i, a := range s.argv {
		argv[i] = fill.Replace(a)
	}
	_, program := splitAssignments(argv)
	if strings.Contains(program[0], "/") {
		return Command{Argv: argv, Dir: dir}, nil
	}
	if _, err := exec.LookPath(program[0]); err != nil {
		system := filepath.Join("/usr/sbin", program[0]) // which an ordinary user's PATH may lack
		if _, other := os.Stat(system); other != nil {
			return Command{}, err
		}
		program[0] = system
	}
	return Command{Argv: argv, Dir: dir}, nil
}

// quietAddress returns a free address that no parallel test is given, nor the
// kernel gives to one that asks for any port.
func quietAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+(os.Getpid()*100+int(quietPorts.Add(1)))%15000)
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

var quietPorts atomic.Int32

// missing names a server that is not installed.
func missing(t *testing.T, err error) {
	t.Helper()
	if *serversAll {
		t.Fatal(err)
	}
	t.Skip("not installed here: ", err)
}

// Each server is started for real on a port that this process holds: it must be
// recognised as refused, in its own words, and the holder named.
func TestRealServersAreRefused(t *testing.T) {
	for _, s := range realServers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			holder := listenLoopback(t)
			addr := holder.Addr().String()
			c, err := s.command(t, specOf(addr).Port)
			if err != nil {
				missing(t, err)
			}
			r := launch(t, Launcher{Command: c, Spec: specOf(addr), Kernel: realKernel(t)}, nil)
			var inUse *InUseError
			if !errors.As(r.err, &inUse) || inUse.Said == "" {
				t.Fatalf("error %v", r.err)
			}
			t.Logf("%v after %v: %s", inUse.Exit, r.first(EventExited).Took, plain(inUse.Said))
			// A child that a parallel test has just forked has the listener too,
			// until it executes its program.
			hs := slices.DeleteFunc(inUse.Verdict.Holders(), func(h netstate.Holder) bool {
				return len(h.Parents) > 0 && h.Parents[0].PID == os.Getpid()
			})
			if len(hs) != 1 || hs[0].ID.PID != os.Getpid() {
				t.Errorf("the holder is %+v, want this process", hs)
			}
		})
	}
}

// The same servers on a free port become ready, and nothing of that is taken
// for a refusal.
func TestRealServersBecomeReady(t *testing.T) {
	for _, s := range realServers {
		if s.rust || s.name == "python asyncio" || s.name == "python socketserver" || s.name == "ruby" {
			continue // these end by themselves
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			addr := quietAddress(t)
			c, err := s.command(t, specOf(addr).Port)
			if err != nil {
				missing(t, err)
			}
			r := launch(t, Launcher{Command: c, Spec: specOf(addr), Kernel: realKernel(t)}, stopWhen(EventReady))
			if got := r.kinds(); got != "attempt started ready stopped" {
				t.Errorf("events %s, output %q", got, r.lines())
			}
		})
	}
}

// otherFailure is a way to end that is no refusal.
type otherFailure struct {
	realServer
	held   bool // the expected port is held by somebody else
	starts bool // the error is that nothing could be started
}

func sh(name, script string) otherFailure {
	return otherFailure{realServer: realServer{name: name, argv: []string{"sh", "-c", script}}}
}

func cmd(name string, argv ...string) otherFailure {
	return otherFailure{realServer: realServer{name: name, argv: argv}}
}

func (o otherFailure) with(file, text string) otherFailure {
	o.files = map[string]string{file: text}
	return o
}

func (o otherFailure) onHeldPort() otherFailure {
	o.name, o.held = o.name+", port held", true
	return o
}

var otherFailures = []otherFailure{
	sh("status 1 at once", "exit 1"),
	sh("the errno as a status", "exit 98"),
	sh("segmentation fault", "kill -SEGV $$"),
	sh("abort", "kill -ABRT $$"),
	sh("killed", "kill -KILL $$"),
	sh("ended by SIGTERM", "kill -TERM $$"),
	sh("EACCES", "exec /etc/passwd"),
	sh("unknown command", "no-such-server --port PORT"),
	sh("status 0 with the words", "echo 'bind: Address already in use' >&2"),
	sh("quotes the words, then misses a file", "echo 'last run: listen EADDRINUSE: address already in use 127.0.0.1:PORT'; cat ./no-such-file"),
	sh("quotes the words, then is killed", "echo 'the docs say: address already in use'; kill -KILL $$"),
	sh("quotes the words at the very end", "echo 'fatal: upstream said: address already in use'; exit 1"),
	sh("a setting is wrong", "echo 'config.yaml:3: unknown key \"prot\"' >&2; exit 78"),
	sh("a setting is wrong", "echo 'config.yaml:3: unknown key \"prot\"' >&2; exit 78").onHeldPort(),
	sh("killed", "kill -KILL $$").onHeldPort(),
	cmd("python, missing file", "python3", "no-such-server.py"),
	cmd("python, missing file", "python3", "no-such-server.py").onHeldPort(),
	cmd("python, bad flag", "python3", "-m", "http.server", "--no-such-flag"),
	cmd("python, exception", "python3", "-c", "raise ValueError('Address')"),
	cmd("python, a Unix socket's path is taken", "python3", "-c", "import socket\nfor i in 1, 2: socket.socket(socket.AF_UNIX).bind('path')"),
	cmd("python, no such address", "python3", "-c", "import socket; socket.socket().bind(('192.0.2.1', PORT))"),
	cmd("python, connection refused", "python3", "-c", "import socket; socket.socket().connect(('127.0.0.1', 1))"),
	cmd("python, served and crashed later", "python3", "-u", "-c", "import socket\ns = socket.create_server(('127.0.0.1', PORT))\ns.accept()\nprint('worker: address already in use')\nraise SystemExit(1)"),
	cmd("node, missing module", "node", "-e", "require('./no-such-module')"),
	cmd("node, exception", "node", "-e", "throw new Error('boom')"),
	cmd("node, connection refused", "node", "-e", "require('net').connect(1, '127.0.0.1')"),
	cmd("node, bad port", "node", "-e", "require('http').createServer().listen(70000)"),
	cmd("java, no such class", "java", "NoSuchClass"),
	cmd("php, syntax error", "php", "-r", "this is no php"),
	cmd("php -S, no such directory", "php", "-S", "127.0.0.1:PORT", "-t", "no-such-directory"),
	cmd("ruby, missing library", "ruby", "-r./no-such-library", "-e", "1"),
	cmd("nginx, bad setting", "nginx", "-p", "DIR", "-e", "stderr", "-c", "x.conf").with("x.conf", "no_such_setting on;\n"),
	cmd("redis, bad setting", "redis-server", "--no-such-setting", "1"),
	cmd("haproxy, bad setting", "haproxy", "-f", "x.cfg").with("x.cfg", "frontend f\n\tno-such-setting\n"),
	cmd("apache, bad setting", "apache2", "-X", "-d", "DIR", "-f", "x.conf").with("x.conf", "NoSuchSetting on\n"),
	cmd("gunicorn, missing application", "gunicorn", "--bind", "127.0.0.1:PORT", "no_such_app:app"),
	cmd("socat, bad address", "socat", "NO-SUCH-ADDRESS:1", "STDIO"),
	{realServer: realServer{name: "missing interpreter", argv: []string{"./script"}, files: map[string]string{"script": "#!/no/such/interpreter\n"}}, starts: true},
	{realServer: realServer{name: "missing program", argv: []string{"./no-such-program"}}, starts: true},
}

// The expected port of each is free unless it says otherwise, and none of them
// may be taken for a refusal: freeing a port would help nobody.
func TestOtherFailuresAreNoRefusals(t *testing.T) {
	for _, o := range otherFailures {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			addr := quietAddress(t)
			if o.held {
				addr = listenLoopback(t).Addr().String()
			}
			c, err := o.command(t, specOf(addr).Port)
			if err != nil {
				missing(t, err)
			}
			if o.starts {
				_ = os.Chmod(filepath.Join(c.Dir, "script"), 0o755) // only one of them has it
			}
			r := launch(t, Launcher{Command: c, Spec: specOf(addr), Kernel: realKernel(t)}, func(e Event, _ func()) {
				if e.Kind == EventReady {
					visit(t, addr)
				}
			})
			var start *StartError
			if o.starts != errors.As(r.err, &start) || !o.starts && r.err != nil {
				t.Errorf("error %v", r.err)
			}
			if r.first(EventInUse).Kind != "" {
				t.Errorf("taken for a refusal: %s", r)
			}
		})
	}
}
