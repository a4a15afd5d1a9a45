package cli

import (
	"os"
	"testing"

	"berth/netstate/lab"
)

// What an ordinary user may do is done; of what he may not, the command is
// named that would do it, and nobody is signalled.
func TestFreeAsAnOrdinaryUser(t *testing.T) {
	own, ownFast, foreign, left := fresh(), fresh(), fresh(), fresh()
	lab.NeedNamespace(t)
	user := os.Geteuid()
	if user == 0 {
		user = 65534
	}
	for port, flag := range map[string]string{own: "--grace=1s", ownFast: "--fast"} {
		p := startAs(t, user, "hold", "127.0.0.1:"+port)
		p.await(t, "holding")
		asNobody(t, "free", port, "--yes", flag).is(t, 0, "can be bound", "")
		p.end(t)
	}
	scene(t, "TIME-WAIT", "127.0.0.1:"+left, lab.Options{})
	asNobody(t, "free", left, "--yes").is(t, 4, "TIME-WAIT", "--destroy")
	asNobody(t, "free", left, "--yes", "--destroy").is(t, 5, "CAP_NET_ADMIN", "\nberth: hint: sudo berth free "+left+" --yes --destroy\n")
	asNobody(t, "wait", left, "--timeout", "1ms").is(t, 6, "refused: ", "TIME-WAIT")
	if os.Geteuid() != 0 {
		t.Skip("the rest needs root, to have a process of another user")
	}
	p := start(t, "hold", "127.0.0.1:"+foreign)
	p.await(t, "holding")
	const hidden = "run berth as root"
	for _, flag := range []string{"--grace=1s", "--fast", "--no-kill", "--dry-run"} {
		hint := "\nberth: hint: sudo berth free " + foreign + " --yes " + flag + "\n"
		asNobody(t, "free", foreign, "--yes", flag).is(t, 5, hidden, hint)
	}
	command := serving("127.0.0.1:"+foreign, 0)
	asNobody(t, append([]string{"run", "--port", foreign, "--force", "--yes", "--"}, command...)...).is(t, 5, "", "\nberth: hint: sudo berth free "+foreign)
	p.stdin.Close()
	if status := p.end(t); status != 0 {
		t.Errorf("the other user's process ended with %d, so it was signalled", status)
	}
}
