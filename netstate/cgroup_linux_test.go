package netstate

import (
	"strings"
	"testing"
)

func TestParseCgroup(t *testing.T) {
	const id = "3f2a61c09b1e4d7788aa00112233445566778899aabbccddeeff001122334455"
	for _, c := range []struct{ path, unit, container string }{
		{"/", "", ""},
		{"/system.slice/nginx.service", "nginx.service", ""},
		{"/system.slice/ssh.socket", "ssh.socket", ""},
		{"/system.slice/system-postgresql.slice/postgresql@15-main.service", "postgresql@15-main.service", ""},
		{"/system.slice/nginx.service/workers", "nginx.service", ""},
		{"/user.slice/user-1000.slice/session-3.scope", "session-3.scope", ""},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/openclaw-gateway.service", "openclaw-gateway.service", ""},
		{"/user.slice/user-1000.slice/user@1000.service", "", ""},
		{"/user.slice", "", ""},
		// Containers: systemd manages the groups, or the engine does.
		{"/system.slice/docker-" + id + ".scope", "", "docker 3f2a61c09b1e"},
		{"/docker/" + id, "", "docker 3f2a61c09b1e"},
		{"/../" + id, "", "container 3f2a61c09b1e"},
		{"/machine.slice/libpod-" + id + ".scope/container", "", "podman 3f2a61c09b1e"},
		{"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope", "", "podman 3f2a61c09b1e"},
		{"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podab_cd.slice/cri-containerd-" + id + ".scope", "", "containerd 3f2a61c09b1e"},
		{"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/crio-" + id + ".scope", "", "cri-o 3f2a61c09b1e"},
		{"/kubepods/burstable/podab-cd/" + id, "", "kubernetes 3f2a61c09b1e"},
		{"/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:" + id, "", "container 3f2a61c09b1e"},
		{"/ecs/task/" + id, "", "container 3f2a61c09b1e"},
		{"/machine.slice/systemd-nspawn@web.service/payload", "", "systemd-nspawn web"},
		{"/machine.slice/machine-web.scope", "", "machine web"},
		{"/lxc/web", "", "lxc web"},
		{"/lxc.payload.web/system.slice/nginx.service", "nginx.service", "lxc web"},
		{"/system.slice/docker-" + id + ".scope/system.slice/nginx.service", "nginx.service", "docker 3f2a61c09b1e"},
		// Not containers: the engine itself, its monitor, a virtual machine,
		// and what only looks like an id.
		{"/system.slice/docker.service", "docker.service", ""},
		{"/machine.slice/libpod-conmon-" + id + ".scope", "libpod-conmon-" + id + ".scope", ""},
		{`/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator`, `machine-qemu\x2d1\x2dvm.scope`, ""},
		{"/build/" + id[:32], "", ""},
		{"/build/" + strings.ToUpper(id), "", ""},
	} {
		unit, container := parseCgroup("0::" + c.path + "\n")
		if unit != c.unit || container != c.container {
			t.Errorf("%s\n\tunit %q, container %q\n\twant %q and %q", c.path, unit, container, c.unit, c.container)
		}
	}
}

func TestParseCgroupVersion1(t *testing.T) {
	const id = "3f2a61c09b1e4d7788aa00112233445566778899aabbccddeeff001122334455"
	// Only systemd's own hierarchy names units; a container is in them all.
	unit, container := parseCgroup("9:cpu,cpuacct:/system.slice/wrong.service\n1:name=systemd:/system.slice/cron.service\n0::/\n")
	if unit != "cron.service" || container != "" {
		t.Errorf("unit %q, container %q", unit, container)
	}
	unit, container = parseCgroup("9:memory:/docker/" + id + "\n1:name=systemd:/docker/" + id + "\n")
	if unit != "" || container != "docker 3f2a61c09b1e" {
		t.Errorf("unit %q, container %q", unit, container)
	}
	for _, odd := range []string{"", "\n", "0:", "::", "0::"} {
		if unit, container := parseCgroup(odd); unit != "" || container != "" {
			t.Errorf("%q: unit %q, container %q", odd, unit, container)
		}
	}
}
