package netstate

import "strings"

// parseCgroup reads /proc/PID/cgroup: one line for each hierarchy, such as
// "0::/system.slice/nginx.service". systemd names groups after its units, and
// container engines after their containers, so the path tells both.
func parseCgroup(text string) (unit, container string) {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		path := strings.Split(parts[2], "/")
		if container == "" {
			container = containerIn(path)
		}
		// Only two hierarchies are systemd's own: the unified one and, with
		// version 1, the named one. Others may hold a process elsewhere.
		if unit == "" && (parts[0] == "0" || parts[1] == "name=systemd") {
			unit = unitIn(path)
		}
	}
	return unit, container
}

// unitIn returns the innermost unit. What lies outside a container is not the
// process's own: the unit above a container is its engine.
func unitIn(path []string) string {
	for i := len(path) - 1; i >= 0; i-- {
		name := path[i]
		if containerAt(path, i) != "" {
			return ""
		}
		// user@1000.service is the manager of a user's own units, all of
		// which lie below it.
		if strings.HasPrefix(name, "user@") {
			continue
		}
		for _, suffix := range []string{".service", ".scope", ".socket"} {
			if strings.HasSuffix(name, suffix) {
				return name
			}
		}
	}
	return ""
}

// containerIn returns the innermost container as "docker 3f2a61c09b1e".
func containerIn(path []string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if c := containerAt(path, i); c != "" {
			return c
		}
	}
	return ""
}

// engines are the prefixes by which engines mark a container's group when
// systemd manages the groups.
var engines = []struct{ prefix, name string }{
	{"docker-", "docker"},
	{"libpod-", "podman"},
	{"crio-", "cri-o"},
	{"cri-containerd-", "containerd"},
	{"nerdctl-", "nerdctl"},
}

// containerAt says which container element i of a path is, or "".
func containerAt(path []string, i int) string {
	// containerd without systemd joins slice, prefix and id by colons.
	name := path[i][strings.LastIndexByte(path[i], ':')+1:]
	parent := ""
	if i > 0 {
		parent = path[i-1]
	}
	scope, isScope := strings.CutSuffix(name, ".scope")
	switch {
	case isScope && strings.HasPrefix(scope, "machine-") && !strings.HasPrefix(scope, `machine-qemu\x2d`):
		return "machine " + strings.TrimPrefix(scope, "machine-")
	case strings.HasPrefix(name, "systemd-nspawn@"):
		return "systemd-nspawn " + strings.TrimSuffix(strings.TrimPrefix(name, "systemd-nspawn@"), ".service")
	case strings.HasPrefix(name, "lxc.payload."):
		return "lxc " + strings.TrimPrefix(name, "lxc.payload.")
	case parent == "lxc":
		return "lxc " + name
	}
	for _, e := range engines {
		if id, ok := strings.CutPrefix(scope, e.prefix); ok && isContainerID(id) {
			return e.name + " " + id[:idLength]
		}
	}
	if !isContainerID(name) {
		return ""
	}
	// An engine that manages the groups itself uses the bare id.
	for _, above := range path[:i] {
		if strings.HasPrefix(above, "kubepods") {
			return "kubernetes " + name[:idLength]
		}
	}
	if parent == "docker" {
		return "docker " + name[:idLength]
	}
	return "container " + name[:idLength]
}

// idLength is how much of a container's id its engine shows.
const idLength = 12

// isContainerID reports whether s is a container's full id: 64 hex digits.
func isContainerID(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
