//go:build amd64 || arm64

package gatewaylaunch

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// server is one that TestRestartUnderLoad restarts.
type server struct {
	name string
	// program is looked for; without one the server is this binary.
	program string
	command func(t *testing.T, host, port string) Command
	// request is sent to it, if not that of HTTP.
	request string
	// slow ones are left out of the short run.
	slow bool
}

var known = []server{
	{name: "go http", command: func(_ *testing.T, host, port string) Command {
		return helperCommand("http", net.JoinHostPort(host, port))
	}},
	{name: "demo", command: func(_ *testing.T, host, port string) Command {
		return helperCommand("demo", net.JoinHostPort(host, port))
	}},
	{name: "python http.server", program: "python3", command: func(t *testing.T, host, port string) Command {
		return Command{Argv: []string{"python3", "-m", "http.server", "--bind", host, port}, Dir: t.TempDir()}
	}},
	{name: "node http", program: "node", command: func(_ *testing.T, host, port string) Command {
		return Command{Argv: []string{"node", "-e", fmt.Sprintf("require('http').createServer((q,r)=>r.end('ok')).listen(%s,'%s')", port, host)}}
	}},
	{name: "nginx", program: "nginx", slow: true, command: func(t *testing.T, host, port string) Command {
		return nginx(t, net.JoinHostPort(host, port))
	}},
	{name: "nginx reuseport", program: "nginx", slow: true, command: func(t *testing.T, host, port string) Command {
		return nginx(t, net.JoinHostPort(host, port)+" reuseport")
	}},
	{name: "redis", program: "redis-server", slow: true, request: "PING\r\nQUIT\r\n", command: func(t *testing.T, host, port string) Command {
		return Command{Argv: []string{"redis-server", "--port", port, "--bind", host, "--save", "", "--dir", t.TempDir()}}
	}},
	{name: "gunicorn", program: "gunicorn", slow: true, command: func(t *testing.T, host, port string) Command {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "app.py"), "def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']\n")
		return Command{Argv: []string{"gunicorn", "-w", "2", "-b", net.JoinHostPort(host, port), "app:app"}, Dir: dir}
	}},
	{name: "java HttpServer", program: "java", slow: true, command: func(t *testing.T, host, port string) Command {
		source := filepath.Join(t.TempDir(), "Server.java")
		write(t, source, `import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
public class Server {
  public static void main(String[] a) throws Exception {
    HttpServer s = HttpServer.create(new InetSocketAddress(a[0], Integer.parseInt(a[1])), 0);
    s.createContext("/", x -> { byte[] b = "ok".getBytes(); x.sendResponseHeaders(200, b.length); x.getResponseBody().write(b); x.close(); });
    s.start();
  }
}
`)
		return Command{Argv: []string{"java", source, host, port}}
	}},
}

func nginx(t *testing.T, listen string) Command {
	dir := t.TempDir()
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	conf := filepath.Join(dir, "nginx.conf")
	write(t, conf, user+`daemon off;
worker_processes 2;
pid `+dir+`/pid;
error_log `+dir+`/error.log;
events {}
http {
  access_log off;
  client_body_temp_path `+dir+`/body; proxy_temp_path `+dir+`/proxy; fastcgi_temp_path `+dir+`/fastcgi;
  uwsgi_temp_path `+dir+`/uwsgi; scgi_temp_path `+dir+`/scgi;
  server { listen `+listen+`; location / { return 200 ok; } }
}
`)
	return Command{Argv: []string{"nginx", "-p", dir, "-c", conf, "-e", dir + "/error.log"}}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// servers returns those that are installed, and names the others.
func servers(t *testing.T) []server {
	var found []server
	for _, s := range known {
		if s.slow && *restarts <= shortRestarts {
			continue
		}
		if s.program != "" {
			if _, err := exec.LookPath(s.program); err != nil {
				t.Logf("%s is not installed, so %s is left out", s.program, s.name)
				continue
			}
		}
		found = append(found, s)
	}
	return found
}
