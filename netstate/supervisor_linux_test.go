package netstate

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// recorded is a process tree as /proc shows it.
type recorded struct {
	cmdlines map[int][]string
	cwds     map[int]string
	environs map[int]map[string]string
	cgroups  map[int]string
	pods     map[string][2]string
	me       asker
}

func (r recorded) cmdline(pid int) []string          { return r.cmdlines[pid] }
func (r recorded) cwd(pid int) string                { return r.cwds[pid] }
func (r recorded) environ(pid int) map[string]string { return r.environs[pid] }
func (r recorded) cgroup(pid int) string             { return r.cgroups[pid] }
func (r recorded) pod(uid string) (ns, name string)  { return r.pods[uid][0], r.pods[uid][1] }
func (r recorded) asker() asker                      { return r.me }

// step is one ancestor: a pid, the kernel's name for it, and its words.
type step struct {
	pid  int
	name string
	args string // separated by "|"
	cwd  string
}

// chain is a holder and what is above it, nearest first.
type chain struct {
	h      Holder
	above  []step
	cgroup string
	env    map[string]string // nil: may not be read
	me     asker
	pods   map[string][2]string
}

func (c chain) recognise() *Supervisor {
	r := recorded{
		cmdlines: map[int][]string{}, cwds: map[int]string{}, environs: map[int]map[string]string{c.h.ID.PID: c.env},
		cgroups: map[int]string{c.h.ID.PID: c.cgroup}, pods: c.pods, me: c.me,
	}
	for _, s := range c.above {
		c.h.Parents = append(c.h.Parents, Parent{PID: s.pid, Name: s.name})
		r.cwds[s.pid] = s.cwd
		if s.args != "" {
			r.cmdlines[s.pid] = strings.Split(s.args, "|")
		}
	}
	c.h.Unit, c.h.Container = parseCgroup(c.cgroup)
	return recognise(&c.h, r)
}

func held(pid int, name string, words ...string) Holder {
	return Holder{ID: ProcessID{PID: pid, Start: 1}, Name: name, Cmdline: words, User: "alice", UID: 1000, FD: 3}
}

var (
	alice     = asker{uid: 1000}
	root      = asker{uid: 0}
	systemd   = step{1, "systemd", "/sbin/init", "/"}
	userMgr   = step{1200, "systemd", "/usr/lib/systemd/systemd|--user", "/"}
	gateway   = held(4211, "node", "node", "server.js")
	shim      = step{700, "containerd-shim", "/usr/bin/containerd-shim-runc-v2|-namespace|moby", "/"}
	dockerID  = "3f2a61c09b1e4d7788aa00112233445566778899aabbccddeeff001122334455"
	dockerGrp = "0::/system.slice/docker-" + dockerID + ".scope\n"
)

// TestRecognise: the chains, groups and environments are those of the real
// programs; the ones of nodemon, node --watch, tsx, pm2, supervisord, runit,
// s6 and daemontools were recorded from running ones.
func TestRecognise(t *testing.T) {
	sudoPM2 := held(4211, "node /home/alic", "node /home/alice/server.js")
	for name, c := range map[string]struct {
		chain
		want *Supervisor
	}{
		// systemd.
		"a system unit": {chain{h: gateway, above: []step{systemd}, cgroup: "0::/system.slice/nginx.service\n", me: root},
			&Supervisor{Kind: SupervisorSystemd, Name: "nginx.service", PID: 1, Stop: "systemctl stop nginx.service", Restart: "systemctl restart nginx.service"}},
		"a unit with an escaped name": {chain{h: gateway, above: []step{systemd}, cgroup: `0::/system.slice/system-web\x2dapp.slice/web\x2dapp@1.service` + "\n", me: root},
			&Supervisor{Kind: SupervisorSystemd, Name: `web\x2dapp@1.service`, PID: 1, Stop: `systemctl stop 'web\x2dapp@1.service'`, Restart: `systemctl restart 'web\x2dapp@1.service'`}},
		"a unit whose name is no text": {chain{h: gateway, above: []step{systemd}, cgroup: "0::/system.slice/a\x1b[2J.service\n", me: root},
			&Supervisor{Kind: SupervisorSystemd, Name: "a\x1b[2J.service", PID: 1}},
		"a version 1 group": {chain{h: gateway, above: []step{systemd}, cgroup: "4:memory:/x\n1:name=systemd:/system.slice/nginx.service\n", me: root},
			&Supervisor{Kind: SupervisorSystemd, Name: "nginx.service", PID: 1, Stop: "systemctl stop nginx.service", Restart: "systemctl restart nginx.service"}},
		"my own unit": {chain{h: gateway, above: []step{userMgr, systemd}, cgroup: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/openclaw-gateway.service\n", me: alice},
			&Supervisor{Kind: SupervisorSystemdUser, Name: "openclaw-gateway.service", PID: 1200, Stop: "systemctl --user stop openclaw-gateway.service", Restart: "systemctl --user restart openclaw-gateway.service"}},
		"alice's unit, seen by root": {chain{h: gateway, above: []step{userMgr, systemd}, cgroup: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/openclaw-gateway.service\n", me: root},
			&Supervisor{Kind: SupervisorSystemdUser, Name: "openclaw-gateway.service", PID: 1200, Stop: "systemctl --user -M alice@ stop openclaw-gateway.service", Restart: "systemctl --user -M alice@ restart openclaw-gateway.service"}},
		"a shell script of a unit": {chain{h: gateway, above: []step{{90, "start.sh", "/bin/sh|/opt/start.sh", "/"}, systemd}, cgroup: "0::/system.slice/app.service\n", me: root},
			&Supervisor{Kind: SupervisorSystemd, Name: "app.service", PID: 1, Stop: "systemctl stop app.service", Restart: "systemctl restart app.service"}},
		"a socket-activated service": {chain{h: gateway, above: []step{systemd}, cgroup: "0::/system.slice/web.service\n", me: root,
			env: map[string]string{"LISTEN_PID": "4211", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web.socket:web.socket"}},
			&Supervisor{Kind: SupervisorSystemd, Name: "web.service", PID: 1, Stop: "systemctl stop web.socket web.service", Restart: "systemctl restart web.service", Restarts: Yes, HoldsPort: true}},
		"a named descriptor": {chain{h: gateway, above: []step{systemd}, cgroup: "0::/system.slice/web.service\n", me: root,
			env: map[string]string{"LISTEN_PID": "4211", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}},
			&Supervisor{Kind: SupervisorSystemd, Name: "web.service", PID: 1, Restart: "systemctl restart web.service", Restarts: Yes, HoldsPort: true, Find: "systemctl list-sockets"}},
		"a child of a socket-activated service": {chain{h: gateway, above: []step{{4000, "web", "/usr/bin/web", "/"}, systemd}, cgroup: "0::/system.slice/web.service\n", me: root,
			env: map[string]string{"LISTEN_PID": "4000", "LISTEN_FDS": "1"}},
			&Supervisor{Kind: SupervisorSystemd, Name: "web.service", PID: 1, Stop: "systemctl stop web.service", Restart: "systemctl restart web.service"}},
		"systemd itself": {chain{h: Holder{ID: ProcessID{PID: 1}, Name: "systemd", UID: 0, User: "root"}, cgroup: "0::/init.scope\n", me: root},
			&Supervisor{Kind: SupervisorSystemd, PID: 1, Restarts: Yes, HoldsPort: true, Find: "systemctl list-sockets"}},
		"a user's manager": {chain{h: held(1200, "systemd", "/usr/lib/systemd/systemd", "--user"), above: []step{systemd}, cgroup: "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", me: alice},
			&Supervisor{Kind: SupervisorSystemdUser, PID: 1200, Restarts: Yes, HoldsPort: true, Find: "systemctl --user list-sockets"}},
		"a container's systemd": {chain{h: Holder{ID: ProcessID{PID: 800}, Name: "systemd", User: "root"}, above: []step{{700, "lxc-start", "lxc-start|web", "/"}}, cgroup: "0::/lxc.payload.web/init.scope\n", me: root},
			&Supervisor{Kind: SupervisorSystemd, PID: 800, Restarts: Yes, HoldsPort: true, Find: "lxc-attach -n web -- systemctl list-sockets"}},

		// Nobody.
		"a login session":             {chain{h: gateway, above: []step{{4102, "bash", "-bash", "/"}, {900, "sshd", "sshd: alice@pts/0", "/"}, systemd}, cgroup: "0::/user.slice/user-1000.slice/session-3.scope\n", me: alice}, nil},
		"a session in ssh's unit":     {chain{h: gateway, above: []step{{4102, "bash", "-bash", "/"}, {900, "sshd", "sshd: alice@pts/0", "/"}, systemd}, cgroup: "0::/system.slice/ssh.service\n", me: root}, nil},
		"a job of cron":               {chain{h: gateway, above: []step{{50, "sh", "/bin/sh|-c|node server.js", "/"}, {40, "cron", "/usr/sbin/CRON|-f", "/"}, systemd}, cgroup: "0::/system.slice/cron.service\n", me: root}, nil},
		"tmux in a user's unit":       {chain{h: gateway, above: []step{{51, "bash", "-bash", "/"}, {50, "tmux: server", "tmux|new", "/"}, userMgr, systemd}, cgroup: "0::/user.slice/user-1000.slice/user@1000.service/tmux.service\n", me: alice}, nil},
		"screen":                      {chain{h: gateway, above: []step{{50, "screen", "SCREEN|-dmS|x|node|server.js", "/"}, systemd}, cgroup: "0::/user.slice/user-1000.slice/session-3.scope\n", me: alice}, nil},
		"a scope of systemd-run":      {chain{h: gateway, above: []step{userMgr, systemd}, cgroup: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1234.scope\n", me: alice}, nil},
		"an orphan":                   {chain{h: gateway, above: []step{{1, "init", "/sbin/init", "/"}}, cgroup: "0::/\n", me: alice}, nil},
		"a shell inside supervisord":  {chain{h: gateway, above: []step{{51, "bash", "bash", "/"}, {50, "jupyter-lab", "/usr/bin/python3|/usr/bin/jupyter-lab", "/"}, {7, "supervisord", "/usr/bin/python3|/usr/bin/supervisord", "/"}}, env: map[string]string{"SUPERVISOR_PROCESS_NAME": "lab"}, me: alice}, nil},
		"an editor's terminal":        {chain{h: gateway, above: []step{{51, "bash", "/bin/bash|--init-file|/x/shell.sh", "/"}, {50, "nodemon", "node|/usr/bin/nodemon|x", "/"}}, me: alice}, nil},
		"a program with a pm2 legacy": {chain{h: gateway, above: []step{{1, "init", "/sbin/init", "/"}}, env: map[string]string{"pm_id": "3"}, me: alice}, nil},

		// Supervisors of programs.
		"supervisord": {chain{h: gateway, above: []step{{53, "supervisord", "/usr/bin/python3|/usr/bin/supervisord|-c|/etc/supervisor/supervisord.conf", "/"}, systemd}, cgroup: "0::/system.slice/supervisor.service\n", me: root,
			env: map[string]string{"SUPERVISOR_ENABLED": "1", "SUPERVISOR_PROCESS_NAME": "web", "SUPERVISOR_GROUP_NAME": "web", "SUPERVISOR_SERVER_URL": "unix:///run/supervisor.sock"}},
			&Supervisor{Kind: SupervisorSupervisord, Name: "web", PID: 53, Stop: "supervisorctl -c /etc/supervisor/supervisord.conf stop web", Restart: "supervisorctl -c /etc/supervisor/supervisord.conf restart web"}},
		"supervisord, as python, a group": {chain{h: gateway, above: []step{{53, "python3", "python3|-m|supervisord|-n", "/"}}, me: root,
			env: map[string]string{"SUPERVISOR_PROCESS_NAME": "web_01", "SUPERVISOR_GROUP_NAME": "web", "SUPERVISOR_SERVER_URL": "unix:///run/supervisor.sock"}},
			&Supervisor{Kind: SupervisorSupervisord, Name: "web:web_01", PID: 53, Stop: "supervisorctl -s unix:///run/supervisor.sock stop web:web_01", Restart: "supervisorctl -s unix:///run/supervisor.sock restart web:web_01"}},
		"supervisord, another user's": {chain{h: gateway, above: []step{{53, "supervisord", "/usr/bin/python3|/usr/bin/supervisord", "/"}, systemd}, me: asker{uid: 1001}},
			&Supervisor{Kind: SupervisorSupervisord, PID: 53, Find: "supervisorctl status"}},
		"pm2": {chain{h: gateway, above: []step{{28, "PM2 v7.0.4: God", "PM2 v7.0.4: God Daemon (/home/alice/.pm2)", "/"}, systemd}, cgroup: "0::/system.slice/pm2-alice.service\n", me: alice,
			env: map[string]string{"pm_id": "3", "name": "my web", "PM2_HOME": "/home/alice/.pm2", "HOME": "/home/alice"}},
			&Supervisor{Kind: SupervisorPM2, Name: "my web", PID: 28, Stop: "pm2 stop 3", Restart: "pm2 restart 3", Restarts: Yes}},
		"pm2, elsewhere, for root": {chain{h: sudoPM2, above: []step{{28, "PM2 v7.0.4: God", "PM2 v7.0.4: God Daemon (/srv/my pm2)", "/"}}, me: root,
			env: map[string]string{"pm_id": "0", "name": "web", "HOME": "/home/alice"}},
			&Supervisor{Kind: SupervisorPM2, Name: "web", PID: 28, Stop: "sudo -u alice PM2_HOME='/srv/my pm2' pm2 stop 0", Restart: "sudo -u alice PM2_HOME='/srv/my pm2' pm2 restart 0", Restarts: Yes}},
		"pm2 in cluster mode": {chain{h: held(24, "PM2 v7.0.4: God", "PM2 v7.0.4: God Daemon (/home/alice/.pm2)"), above: []step{systemd}, me: alice, env: map[string]string{"HOME": "/home/alice"}},
			&Supervisor{Kind: SupervisorPM2, PID: 24, Restarts: Yes, HoldsPort: true, Find: "pm2 list"}},
		"runit": {chain{h: gateway, above: []step{{35, "runsv", "runsv|web", "/etc/sv/web"}, {3, "runsvdir", "runsvdir|/etc/service", "/"}}, me: root},
			&Supervisor{Kind: SupervisorRunit, Name: "web", PID: 35, Stop: "sv down /etc/sv/web", Restart: "sv restart /etc/sv/web", Restarts: Yes}},
		"runit, another user's": {chain{h: gateway, above: []step{{35, "runsv", "runsv|web", ""}}, me: alice},
			&Supervisor{Kind: SupervisorRunit, Name: "web", PID: 35, Restarts: Yes}},
		"s6": {chain{h: gateway, above: []step{{11, "s6-supervise", "s6-supervise|web", "/run/service/web"}, {3, "s6-svscan", "s6-svscan|/run/service", "/"}}, me: root},
			&Supervisor{Kind: SupervisorS6, Name: "web", PID: 11, Stop: "s6-svc -d /run/service/web", Restart: "s6-svc -r /run/service/web", Restarts: Yes}},
		"daemontools": {chain{h: gateway, above: []step{{6, "supervise", "supervise|web", "/service/my web"}, {3, "svscan", "svscan|/service", "/"}}, me: root},
			&Supervisor{Kind: SupervisorDaemontools, Name: "web", PID: 6, Stop: "svc -d '/service/my web'", Restart: "svc -t '/service/my web'", Restarts: Yes}},
		"openrc": {chain{h: gateway, above: []step{{6, "supervise-daemo", "/sbin/supervise-daemon|web|--start|/usr/bin/node", "/"}}, me: root},
			&Supervisor{Kind: SupervisorOpenRC, Name: "web", PID: 6, Stop: "rc-service web stop", Restart: "rc-service web restart", Restarts: Yes}},

		// Watchers and runners of a Procfile.
		"nodemon":            {chain{h: gateway, above: []step{{5, "node", "node|/app/node_modules/.bin/nodemon|server.js", "/app"}, {3, "bash", "-bash", "/"}}, me: alice}, watcher("nodemon", 5)},
		"nodemon --exec":     {chain{h: gateway, above: []step{{24, "sh", "sh|-c|X=1 node server.js", "/app"}, {5, "node", "node|/usr/lib/node_modules/nodemon/bin/nodemon.js|--exec|X=1 node server.js", "/app"}}, me: alice}, watcher("nodemon", 5)},
		"node --watch":       {chain{h: gateway, above: []step{{10, "node", "node|--watch|server.js", "/app"}, {3, "zsh", "zsh|-i", "/"}}, me: alice}, watcher("node --watch", 10)},
		"a script's --watch": {chain{h: gateway, above: []step{{10, "node", "node|build.js|--watch", "/app"}, {3, "zsh", "-zsh", "/"}}, me: alice}, nil},
		"tsx watch":          {chain{h: gateway, above: []step{{7, "node", "node|/app/node_modules/.bin/tsx|watch|server.ts", "/app"}}, me: alice}, watcher("tsx", 7)},
		"tsx":                {chain{h: gateway, above: []step{{7, "node", "node|/app/node_modules/.bin/tsx|server.ts", "/app"}}, me: alice}, nil},
		"air":                {chain{h: held(9, "main", "./tmp/main"), above: []step{{7, "air", "/home/alice/go/bin/air|-c|.air.toml", "/app"}}, me: alice}, watcher("air", 7)},
		"watchexec in npm":   {chain{h: gateway, above: []step{{9, "sh", "sh|-c|node server.js", "/app"}, {7, "watchexec", "watchexec|-r|node server.js", "/app"}, {5, "npm run dev", "npm run dev", "/app"}}, me: alice}, watcher("watchexec", 7)},
		"foreman": {chain{h: gateway, above: []step{{8, "sh", "/bin/sh|-c|node server.js", "/app"}, {7, "foreman: master", "foreman: master", "/app"}, {3, "bash", "-bash", "/"}}, me: alice, env: map[string]string{"PS": "web.1"}},
			&Supervisor{Kind: "foreman", Name: "web.1", PID: 7, Stop: "kill 7", Restarts: No}},
		"hivemind": {chain{h: gateway, above: []step{{7, "hivemind", "hivemind|Procfile.dev", "/app"}}, me: alice},
			&Supervisor{Kind: "hivemind", PID: 7, Stop: "kill 7", Restarts: No}},
		"overmind": {chain{h: gateway, above: []step{{8, "sh", "/bin/sh|/tmp/overmind-app-V1StGXR8/web", "/app"}, {7, "tmux: server", "tmux|-C|-L|overmind-app-V1StGXR8|new-session", "/app"}}, me: alice, env: map[string]string{"PS": "web"}},
			&Supervisor{Kind: "overmind", Name: "web", PID: 7, Stop: "overmind stop web", Restart: "overmind restart web"}},

		// Containers.
		"docker": {chain{h: gateway, above: []step{shim, systemd}, cgroup: dockerGrp, me: root},
			&Supervisor{Kind: SupervisorDocker, Name: "3f2a61c09b1e", Stop: "docker stop 3f2a61c09b1e", Restart: "docker restart 3f2a61c09b1e"}},
		"podman": {chain{h: gateway, above: []step{{700, "conmon", "/usr/bin/conmon|--api-version|1", "/"}, userMgr, systemd}, cgroup: "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + dockerID + ".scope/container\n", me: alice},
			&Supervisor{Kind: SupervisorPodman, Name: "3f2a61c09b1e", Stop: "podman stop 3f2a61c09b1e", Restart: "podman restart 3f2a61c09b1e"}},
		"kubernetes": {chain{h: gateway, above: []step{shim, systemd}, me: root,
			cgroup: "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0cfa8fd8_0e4c_4d6a_9d9d_1a3b5c7d9e0f.slice/cri-containerd-" + dockerID + ".scope\n",
			pods:   map[string][2]string{"0cfa8fd8-0e4c-4d6a-9d9d-1a3b5c7d9e0f": {"default", "web-6d4b75cb6d-x2x9z"}}},
			&Supervisor{Kind: SupervisorKubernetes, Name: "default/web-6d4b75cb6d-x2x9z", Restart: "kubectl -n default delete pod web-6d4b75cb6d-x2x9z"}},
		"kubernetes without the logs": {chain{h: gateway, above: []step{shim, systemd}, me: root, cgroup: "0::/kubepods/burstable/pod0cfa8fd8-0e4c-4d6a-9d9d-1a3b5c7d9e0f/" + dockerID + "\n"},
			&Supervisor{Kind: SupervisorKubernetes, Find: "kubectl get pods -A"}},
		"supervisord in docker": {chain{h: gateway, above: []step{{53, "supervisord", "/usr/bin/python3|/usr/bin/supervisord|-c|/etc/sup.conf", "/"}, shim, systemd}, cgroup: dockerGrp, me: root, env: map[string]string{"SUPERVISOR_PROCESS_NAME": "web"}},
			&Supervisor{Kind: SupervisorSupervisord, Name: "web", PID: 53, Stop: "docker exec 3f2a61c09b1e supervisorctl -c /etc/sup.conf stop web", Restart: "docker exec 3f2a61c09b1e supervisorctl -c /etc/sup.conf restart web"}},
		"the same, asked inside": {chain{h: gateway, above: []step{{53, "supervisord", "/usr/bin/python3|/usr/bin/supervisord", "/"}}, cgroup: dockerGrp, me: asker{container: "docker 3f2a61c09b1e"}, env: map[string]string{"SUPERVISOR_PROCESS_NAME": "web"}},
			&Supervisor{Kind: SupervisorSupervisord, Name: "web", PID: 53, Stop: "supervisorctl stop web", Restart: "supervisorctl restart web"}},
		"nodemon in docker": {chain{h: gateway, above: []step{{53, "node", "node|/usr/bin/nodemon|x", "/"}, shim}, cgroup: dockerGrp, me: root}, watcher("nodemon", 53)},
		"a unit in an lxc container": {chain{h: gateway, above: []step{{800, "systemd", "/sbin/init", "/"}, {700, "lxc-start", "lxc-start|web", "/"}}, cgroup: "0::/lxc.payload.web/system.slice/nginx.service\n", me: root},
			&Supervisor{Kind: SupervisorSystemd, Name: "nginx.service", PID: 800, Stop: "lxc-attach -n web -- systemctl stop nginx.service", Restart: "lxc-attach -n web -- systemctl restart nginx.service"}},
		"docker-proxy": {chain{h: Holder{ID: ProcessID{PID: 60}, Name: "docker-proxy", Cmdline: strings.Fields("/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80 -use-listen-fd")}, cgroup: "0::/system.slice/docker.service\n", me: root},
			&Supervisor{Kind: SupervisorDocker, Name: "172.17.0.2:80", HoldsPort: true, Find: "docker ps --filter publish=8080/tcp"}},
		"conmon": {chain{h: held(60, "conmon", strings.Fields("/usr/bin/conmon --api-version 1 -c "+dockerID+" -u "+dockerID+" -r /usr/bin/crun -n brave_curie --exit-dir /run/exits")...), me: alice},
			&Supervisor{Kind: SupervisorPodman, Name: "brave_curie", PID: 60, HoldsPort: true, Stop: "podman stop brave_curie", Restart: "podman restart brave_curie"}},
		"rootlessport": {chain{h: held(60, "rootlessport", "rootlessport"), me: alice}, &Supervisor{Kind: SupervisorPodman, HoldsPort: true, Find: "podman ps"}},

		// macOS.
		"launchd": {chain{h: Holder{ID: ProcessID{PID: 300}, Name: "node", UID: 501, User: "alice"}, above: []step{{1, "launchd", "/sbin/launchd", "/"}}, me: asker{uid: 501}, env: map[string]string{"XPC_SERVICE_NAME": "ai.openclaw.gateway"}},
			&Supervisor{Kind: SupervisorLaunchd, Name: "ai.openclaw.gateway", PID: 1, Stop: "launchctl bootout gui/501/ai.openclaw.gateway", Restart: "launchctl kickstart -k gui/501/ai.openclaw.gateway"}},
		"a daemon of macOS": {chain{h: Holder{ID: ProcessID{PID: 300}, Name: "httpd", UID: 0}, above: []step{{1, "launchd", "/sbin/launchd", "/"}}, me: root, env: map[string]string{"XPC_SERVICE_NAME": "org.apache.httpd"}},
			&Supervisor{Kind: SupervisorLaunchd, Name: "org.apache.httpd", PID: 1, Stop: "launchctl bootout system/org.apache.httpd", Restart: "launchctl kickstart -k system/org.apache.httpd"}},
		"an orphan of macOS's Terminal": {chain{h: gateway, above: []step{{1, "launchd", "/sbin/launchd", "/"}}, me: alice, env: map[string]string{"XPC_SERVICE_NAME": "0"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.recognise()
			switch {
			case got == nil && c.want == nil:
			case got == nil || c.want == nil || *got != *c.want:
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func watcher(name string, pid int) *Supervisor {
	return &Supervisor{Kind: SupervisorKind(name), PID: pid, Stop: "kill " + map[int]string{5: "5", 7: "7", 10: "10", 53: "53"}[pid], Restarts: Yes, OnChange: true}
}

func TestOperand(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "nginx.service": "nginx.service", "my web": "'my web'", `a\x2db.service`: `'a\x2db.service'`,
		"it's": `'it'\''s'`, "$(reboot)": "'$(reboot)'", "-rf": "", "a\nb": "", "a\x1b[2Jb": "", "a\u202eb": "", "größe": "'größe'", "~": "'~'",
	} {
		if got := operand(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestParseProcArgs(t *testing.T) {
	b := append([]byte{2, 0, 0, 0}, "/usr/bin/node\x00\x00\x00node\x00server.js\x00HOME=/Users/a\x00XPC_SERVICE_NAME=x.y\x00\x00junk=1\x00"...)
	env := environment(parseProcArgs(b))
	if len(env) != 2 || env["XPC_SERVICE_NAME"] != "x.y" || env["HOME"] != "/Users/a" {
		t.Errorf("environment %q", env)
	}
	for cut := range b {
		parseProcArgs(b[:cut]) // must not panic
	}
}

func unitFS(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

// TestUnitFiles: which file counts, and in what order additions apply, is
// systemd.unit(5)'s.
func TestUnitFiles(t *testing.T) {
	u := systemUnits(unitFS(map[string]string{
		"usr/lib/systemd/system/a.service":             "[Unit]\nRestart=no\n[Service]\nRestart=always\n",
		"usr/lib/systemd/system/b.service":             "[Service]\nRestart = always\n",
		"etc/systemd/system/b.service":                 "[Service]\n#Restart=always\nExecStart=/bin/b\n",
		"usr/lib/systemd/system/c.service":             "[Service]\nRestart=on-failure\n",
		"usr/lib/systemd/system/d@.service":            "[Service]\nRestart=no\n",
		"etc/systemd/system/d@.service.d/10.conf":      "[Service]\nRestart=on-success\n",
		"etc/systemd/system/d@2.service.d/20.conf":     "[Service]\nRestart=no\n",
		"usr/lib/systemd/system/e-f.service":           "[Service]\n",
		"etc/systemd/system/e-.service.d/x.conf":       "[Service]\nRestart=always\n",
		"etc/systemd/system/e-.service.d/README":       "[Service]\nRestart=no\n",
		"usr/lib/systemd/system/g.service":             "[Service]\nRestart=always\n",
		"usr/lib/systemd/system/g.service.d/10.conf":   "[Service]\nRestart=always\n",
		"etc/systemd/system/g.service.d/10.conf":       "[Service]\nRestart=\n",
		"etc/systemd/system/g.service.d/05-other.conf": "[Unit]\nRestart=always\n",
	}))
	for unit, want := range map[string]Tri{
		"a.service": Yes, "b.service": No, "c.service": Unknown, "d@1.service": Yes, "d@2.service": No,
		"e-f.service": Yes, "g.service": No, "missing.service": Unknown, "\xff.service": Unknown,
	} {
		if got := u.restarts(unit); got != want {
			t.Errorf("%s: %v, want %v", unit, got, want)
		}
	}
}

func TestSocketUnits(t *testing.T) {
	u := systemUnits(unitFS(map[string]string{
		"run/systemd/units/invocation:ssh.socket":   "",
		"run/systemd/units/invocation:cups.socket":  "",
		"run/systemd/units/invocation:dns.socket":   "",
		"run/systemd/units/invocation:web.service":  "",
		"usr/lib/systemd/system/ssh.socket":         "[Socket]\nListenStream=22\nAccept=no\n",
		"etc/systemd/system/ssh.socket.d/port.conf": "[Socket]\nListenStream=\nListenStream=0.0.0.0:2222\nListenStream=[::]:2222\n",
		"usr/lib/systemd/system/cups.socket":        "[Socket]\nListenStream=/run/cups/cups.sock\nListenStream=[fe80::1%eth0]:631\n",
		"usr/lib/systemd/system/dns.socket":         "[Socket]\nListenDatagram=127.0.0.53:53\nListenStream=vsock::53\n",
		"usr/lib/systemd/system/not-running.socket": "[Socket]\nListenStream=9\n",
	}))
	for _, c := range []struct {
		protocol Protocol
		port     uint16
		want     string
	}{{TCP, 2222, "ssh.socket"}, {TCP, 22, ""}, {TCP, 222, ""}, {UDP, 53, "dns.socket"}, {TCP, 53, ""}, {TCP, 9, ""}} {
		if got := strings.Join(u.socketsOn(c.protocol, c.port), " "); got != c.want {
			t.Errorf("%v %d: %q, want %q", c.protocol, c.port, got, c.want)
		}
	}
}

// TestCompleteSupervisors: the files are asked once, the holders that others
// share stay as they were, and what the verdict does not block on is not asked
// about.
func TestCompleteSupervisors(t *testing.T) {
	u := systemUnits(unitFS(map[string]string{
		"run/systemd/units/invocation:web.socket": "",
		"usr/lib/systemd/system/web.socket":       "[Socket]\nListenStream=80\n",
		"usr/lib/systemd/system/web.service":      "[Service]\nRestart=always\n",
	}))
	manager := chain{h: Holder{ID: ProcessID{PID: 1}, Name: "systemd"}, me: root}.recognise()
	activated := chain{h: gateway, above: []step{systemd}, cgroup: "0::/system.slice/web.service\n", me: root, env: map[string]string{"LISTEN_PID": "4211", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}}.recognise()
	direct := chain{h: gateway, above: []step{systemd}, cgroup: "0::/system.slice/web.service\n", me: root}.recognise()
	deeper := *direct
	holders := []Holder{
		{ID: ProcessID{PID: 1}, Name: "systemd", Supervisor: manager},
		{ID: ProcessID{PID: 2}, Supervisor: activated},
		{ID: ProcessID{PID: 3}, Supervisor: direct, Parents: []Parent{{PID: 1, Name: "systemd"}}},
		{ID: ProcessID{PID: 4}, Supervisor: &deeper, Parents: []Parent{{PID: 3, Name: "npm"}}},
		{ID: ProcessID{PID: 5}},
	}
	asked := 0
	of := func(s *Supervisor, h *Holder) (units, *account, bool) { asked++; return u, nil, true }
	v := Verdict{Spec: BindSpec{Port: 80}, Blockers: []Blocker{{Holders: holders}, {Holders: holders[:1]}}}
	completeSupervisors(&v, of)

	if asked != 4 {
		t.Errorf("the files were asked %d times, want once for each of 4 supervisors", asked)
	}
	for i, h := range holders[:4] {
		if want := []*Supervisor{manager, activated, direct, &deeper}[i]; h.Supervisor != want {
			t.Errorf("holder %d was changed where others see it", i)
		}
	}
	got := v.Blockers[0].Holders
	if s := got[0].Supervisor; s.Name != "web.socket" || s.Stop != "systemctl stop web.socket" || s.Find != "" {
		t.Errorf("systemd itself: %+v", s)
	}
	if s := got[1].Supervisor; s.Name != "web.service" || s.Stop != "systemctl stop web.socket web.service" || s.Find != "" {
		t.Errorf("the activated service: %+v", s)
	}
	if s := got[2].Supervisor; s.Restarts != Yes {
		t.Errorf("the main process: restarts %v", s.Restarts)
	}
	if s := got[3].Supervisor; s.Restarts != Unknown {
		t.Errorf("a process deeper in the unit: restarts %v", s.Restarts)
	}
	if v.Blockers[1].Holders[0].Supervisor != got[0].Supervisor {
		t.Error("the second blocker has another supervisor")
	}
}

func TestTimeSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Second, "0": 0, "100ms": 100 * time.Millisecond, "1min 30s": 90 * time.Second, "1.5": 1500 * time.Millisecond, "2 h": 2 * time.Hour,
		"": 0, "infinity": 0, "5 parsecs": 0, "1e400": 0, "99999999999999999999h": 0, ".": 0,
	} {
		if got := timeSpan(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}
