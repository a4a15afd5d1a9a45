package netstate

import (
	"net"
	"strings"
)

// containerEngine is the supervisor of what runs in a container. Whether it
// starts the container again is its restart policy, which only it can tell.
func containerEngine(h *Holder, r processReader) *Supervisor {
	engine, id, _ := strings.Cut(h.Container, " ")
	if uid := podUID(r.cgroup(h.ID.PID)); uid != "" {
		return kubernetesPod(uid, r)
	}
	switch engine {
	case "docker", "podman", "nerdctl":
		return &Supervisor{Kind: SupervisorKind(engine), Name: id, Stop: command(engine+" stop", id), Restart: command(engine+" restart", id)}
	case "lxc":
		return &Supervisor{Kind: "lxc", Name: id, Stop: command("lxc-stop -n", id)}
	case "machine", "systemd-nspawn":
		return &Supervisor{Kind: "systemd-nspawn", Name: id, Stop: command("machinectl poweroff", id), Restart: command("machinectl reboot", id)}
	}
	return &Supervisor{Kind: SupervisorKind(engine), Name: id}
}

// kubernetesPod has no stop command: whatever made the pod makes another one
// as soon as it is gone.
func kubernetesPod(uid string, r processReader) *Supervisor {
	s := &Supervisor{Kind: SupervisorKubernetes, Find: "kubectl get pods -A"}
	if namespace, name := r.pod(uid); name != "" {
		s.Name, s.Find = namespace+"/"+name, ""
		if words := command("kubectl -n", namespace); words != "" {
			s.Restart = command(words+" delete pod", name)
		}
	}
	return s
}

// podUID finds a pod in a control group: kubepods-burstable-podUID.slice with
// systemd, which allows no dashes in the UID there, and podUID without.
func podUID(cgroup string) string {
	for line := range strings.Lines(cgroup) {
		_, path, found := strings.Cut(strings.TrimSuffix(line, "\n"), "/kubepods")
		if !found {
			continue
		}
		for group := range strings.SplitSeq(path, "/") {
			group, _, _ = strings.Cut(group, ".slice")
			i := strings.LastIndex(group, "pod")
			if i < 0 || i > 0 && group[i-1] != '-' {
				continue
			}
			if uid := strings.ReplaceAll(group[i+len("pod"):], "_", "-"); len(uid) >= 32 {
				return uid
			}
		}
	}
	return ""
}

// dockerProxy reads the command line of docker's userland proxy, which names
// the address in the container but not the container.
func dockerProxy(cmdline []string) *Supervisor {
	s := &Supervisor{Kind: SupervisorDocker, HoldsPort: true, Find: "docker ps"}
	value := options(cmdline)
	if ip := value["container-ip"]; ip != "" {
		s.Name = net.JoinHostPort(ip, value["container-port"])
	}
	if filter := command("docker ps --filter", "publish="+value["host-port"]+"/"+value["proto"]); value["host-port"] != "" && value["proto"] != "" && filter != "" {
		s.Find = filter
	}
	return s
}

// conmon watches one container of podman and keeps its published ports.
func conmon(h *Holder) *Supervisor {
	value := options(h.Cmdline)
	s := &Supervisor{Kind: SupervisorPodman, Name: value["n"], PID: h.ID.PID, HoldsPort: true}
	if s.Name == "" {
		// The beginning of the id is what podman shows and takes.
		s.Name = value["c"][:min(12, len(value["c"]))]
	}
	if s.Name == "" {
		s.Find = "podman ps"
	}
	s.Stop, s.Restart = command("podman stop", s.Name), command("podman restart", s.Name)
	return s
}

// options reads "-name value" and "--name=value" of a command line.
func options(cmdline []string) map[string]string {
	value := map[string]string{}
	for i, word := range cmdline {
		name, isOption := strings.CutPrefix(word, "-")
		if !isOption {
			continue
		}
		name = strings.TrimPrefix(name, "-")
		if name, v, ok := strings.Cut(name, "="); ok {
			value[name] = v
		} else if i+1 < len(cmdline) && !strings.HasPrefix(cmdline[i+1], "-") {
			value[name] = cmdline[i+1]
		}
	}
	return value
}
