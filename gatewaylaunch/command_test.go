package gatewaylaunch

import (
	"slices"
	"strings"
	"testing"
)

func TestPortOf(t *testing.T) {
	for _, tt := range []struct {
		argv string
		env  []string
		port uint16 // 0: nothing says one
	}{
		{argv: "node server.js --port 3000", port: 3000},
		{argv: "node server.js --port=3000", port: 3000},
		{argv: "server -port 3000", port: 3000},
		{argv: "server -p 3000", port: 3000},
		{argv: "server --port 3000 --port 4000", port: 4000},
		{argv: "npm run dev -- --port 3000", port: 3000},
		{argv: "PORT=3000 node server.js", port: 3000},
		{argv: "A=1 PORT=3000 B=2 node server.js", port: 3000},
		{argv: "env -u HOME PORT=3000 node server.js", port: 3000},
		{argv: "env -i PORT=3000 node server.js", port: 3000},
		{argv: "PORT=3000 server --port 4000", port: 4000},
		{argv: "gunicorn -b 127.0.0.1:8000 app", port: 8000},
		{argv: "server --listen tcp://0.0.0.0:8000", port: 8000},
		{argv: "server --addr :8000", port: 8000},
		{argv: "server --bind [::1]:8000", port: 8000},
		{argv: "python3 -m http.server 8080", port: 8080},
		{argv: "python3 -m http.server -d /srv --bind 127.0.0.1 8080", port: 8080},
		{argv: "python3 -m http.server --cgi 8080", port: 8080},
		{argv: "python3 -m http.server --directory=/srv", port: 8000},
		{argv: "openclaw gateway run", env: []string{"OPENCLAW_GATEWAY_PORT=19000"}, port: 19000},
		{argv: "npx openclaw gateway run", env: []string{"OPENCLAW_GATEWAY_PORT=19000"}, port: 19000},
		{argv: "node /opt/openclaw.mjs gateway run", env: []string{"OPENCLAW_GATEWAY_PORT=19000"}, port: 19000},
		{argv: "OPENCLAW_GATEWAY_PORT=19001 openclaw gateway run", env: []string{"OPENCLAW_GATEWAY_PORT=19000"}, port: 19001},
		{argv: "openclaw gateway run --port 19002", env: []string{"OPENCLAW_GATEWAY_PORT=19000"}, port: 19002},

		{argv: "openclaw gateway run", port: 18789},
		{argv: "node server.js", env: []string{"PORT=3000", "OPENCLAW_GATEWAY_PORT=19000"}},
		{argv: "server --port"},
		{argv: "server --port --verbose"},
		{argv: "server --port 0"},
		{argv: "server --port 65536"},
		{argv: "server -p tcp"},
		{argv: "--port 3000"}, // the first word is the program
		{argv: "ab -b 5 x"},
		{argv: "server --bind unix:/run/x.sock"},
		{argv: "env -i"},
		{argv: "python3 -m http.server x"},
		{argv: ""},
	} {
		port, ok := PortOf(strings.Fields(tt.argv), tt.env)
		if port != tt.port || ok != (tt.port != 0) {
			t.Errorf("PortOf(%q, %v) = %d, %v, want %d", tt.argv, tt.env, port, ok, tt.port)
		}
	}
}

func TestHostOf(t *testing.T) {
	for argv, want := range map[string]string{
		"server --host 0.0.0.0":                       "0.0.0.0",
		"server --host=::1":                           "::1",
		"server --host localhost --port 80":           "localhost",
		"gunicorn -b 127.0.0.1:8000 app":              "127.0.0.1",
		"server --listen [::1]:8000":                  "::1",
		"server --listen :8000":                       "any",
		"server --address *:8000":                     "any",
		"server --listen http://10.0.0.1:80/":         "10.0.0.1",
		"openclaw gateway run --bind loopback":        "loopback",
		"openclaw gateway run --bind=lan":             "any",
		"openclaw gateway run --bind auto":            "",
		"python3 -m http.server 8080":                 "any",
		"python3 -m http.server -b 127.0.0.1 8080":    "127.0.0.1",
		"python3 -m http.server --bind ::1 8080":      "::1",
		"server --listen 3000":                        "",
		"server --host":                               "",
		"server --listen unix:/run/x.sock":            "",
		"server --listen unix:///run/x.sock":          "",
		"node server.js":                              "",
		"server --host 10.0.0.1 --host 10.0.0.2 -v x": "10.0.0.2",
	} {
		host, ok := HostOf(strings.Fields(argv))
		if host != want || ok != (want != "") {
			t.Errorf("HostOf(%q) = %q, %v, want %q", argv, host, ok, want)
		}
	}
}

func TestEnviron(t *testing.T) {
	env := []string{
		"HOME=/root", "INVOCATION_ID=1", "JOURNAL_STREAM=8:1", "SYSTEMD_EXEC_PID=7",
		"OPENCLAW_SYSTEMD_UNIT=x.service", "INVOCATION_ID_2=kept", "PORT=1",
	}
	c := Command{Argv: []string{"PORT=2", "INVOCATION_ID=mine", "node", "X=3"}, Env: env}
	want := []string{"HOME=/root", "INVOCATION_ID_2=kept", "PORT=1", "PORT=2", "INVOCATION_ID=mine"}
	if got := c.environ(); !slices.Equal(got, want) {
		t.Errorf("environ() = %q, want %q", got, want)
	}
	t.Setenv("INVOCATION_ID", "inherited")
	if got := (Command{Argv: []string{"node"}}).environ(); slices.Contains(got, "INVOCATION_ID=inherited") {
		t.Error("the inherited INVOCATION_ID reaches the gateway")
	} else if len(got) == 0 {
		t.Error("the inherited environment is lost")
	}
}

func TestCommandString(t *testing.T) {
	c := Command{Argv: []string{"node", "-e", "a 'b' $c", ""}}
	if got, want := c.String(), `node -e 'a '\''b'\'' $c' ''`; got != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
}
