package reclaim

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/netstate"
)

func TestSupervisorRisk(t *testing.T) {
	for name, c := range map[string]struct {
		s    *netstate.Supervisor
		want string
	}{
		"none": {nil, ""},
		"systemd, always": {&netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: "nginx.service", PID: 1, Stop: "systemctl stop nginx.service", Restarts: netstate.Yes},
			"systemd will start node 4211 again (nginx.service): to stop it for good, systemctl stop nginx.service"},
		"systemd, unknown": {&netstate.Supervisor{Kind: netstate.SupervisorSystemdUser, Name: "gw.service", PID: 1200, Stop: "systemctl --user stop gw.service"},
			"the user's systemd may start node 4211 again (gw.service): to stop it for good, systemctl --user stop gw.service"},
		"systemd, never":  {&netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: "gw.service", Stop: "systemctl stop gw.service", Restarts: netstate.No}, ""},
		"a socket's port": {&netstate.Supervisor{Kind: netstate.SupervisorSystemd, Name: "ssh.socket", Stop: "systemctl stop ssh.socket", Restarts: netstate.Yes, HoldsPort: true}, "systemd itself holds the port for ssh.socket: to stop it for good, systemctl stop ssh.socket"},
		"some socket's":   {&netstate.Supervisor{Kind: netstate.SupervisorSystemd, Find: "systemctl list-sockets", HoldsPort: true}, "systemd itself holds the port for something whose name is not known: see systemctl list-sockets"},
		"nodemon":         {&netstate.Supervisor{Kind: "nodemon", PID: 5, Stop: "kill 5", Restarts: netstate.Yes, OnChange: true}, "nodemon 5 starts node 4211 again when a file changes: to stop it for good, kill 5"},
		"foreman":         {&netstate.Supervisor{Kind: "foreman", PID: 7, Name: "web.1", Stop: "kill 7", Restarts: netstate.No}, "foreman 7 stops its other programs when node 4211 ends: to stop it for good, kill 7"},
		"no command":      {&netstate.Supervisor{Kind: netstate.SupervisorRunit, PID: 35, Name: "a\x1b[2J", Restarts: netstate.Yes}, "runit 35 will start node 4211 again (a?[2J)"},
	} {
		h := process(4211, "node")
		h.Supervisor = c.s
		if got := supervisorRisk(h); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func clientAt(remote string, here netstate.Tri, hs ...netstate.Holder) netstate.Client {
	return netstate.Client{Remote: netip.MustParseAddrPort(remote), Here: here, Holders: hs}
}

func clientsOf(cs ...netstate.Client) netstate.Sample[netstate.Client] {
	return netstate.Sample[netstate.Client]{Known: true, First: cs, Count: len(cs)}
}

func TestClientsRisk(t *testing.T) {
	curl, psql, node := process(512, "curl"), process(613, "psql"), process(4211, "node")
	many := clientsOf(clientAt("10.0.0.7:1", netstate.Unknown))
	many.Count = 500
	for name, c := range map[string]struct {
		clients netstate.Sample[netstate.Client]
		want    string
	}{
		"none":    {clientsOf(), ""},
		"unknown": {netstate.Sample[netstate.Client]{}, ""},
		"one":     {clientsOf(clientAt("127.0.0.1:1", netstate.Yes, curl)), "1 client will be cut off: curl 512"},
		"three": {clientsOf(clientAt("127.0.0.1:1", netstate.Yes, curl), clientAt("127.0.0.1:2", netstate.Yes, psql), clientAt("10.0.0.7:3", netstate.Unknown)),
			"3 clients will be cut off: curl 512, psql 613 and one from 10.0.0.7"},
		"several of one": {clientsOf(clientAt("127.0.0.1:1", netstate.Yes, curl), clientAt("127.0.0.1:2", netstate.Yes, curl), clientAt("10.0.0.7:3", netstate.Unknown), clientAt("10.0.0.7:4", netstate.Unknown)),
			"4 connections will be cut off: curl 512 (2) and 2 from 10.0.0.7"},
		"hidden":           {clientsOf(clientAt("127.0.0.1:1", netstate.Yes)), "1 client will be cut off: one from a process here that this user may not see"},
		"shared with node": {clientsOf(clientAt("127.0.0.1:1", netstate.Yes, node, psql)), "1 client will be cut off: psql 613"},
		"itself":           {clientsOf(clientAt("127.0.0.1:1", netstate.Yes, node)), "1 client will be cut off: node 4211"},
		"too many to list": {many, "500 connections will be cut off: one from 10.0.0.7 and others"},
		"an escape":        {clientsOf(clientAt("127.0.0.1:1", netstate.Yes, process(5, "a\x1b[2J"))), "1 client will be cut off: a?[2J 5"},
	} {
		if got := clientsRisk(c.clients, []netstate.Holder{node}); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func TestImpactRisks(t *testing.T) {
	node, young := process(4211, "node"), process(4212, "node")
	node.Started, young.Started = at.Add(-12*24*time.Hour-time.Hour), at.Add(-longRun+time.Second)
	im := netstate.Impact{Clients: clientsOf(), Holders: []netstate.HolderImpact{
		{ID: young.ID},
		{ID: node.ID,
			Children: netstate.Sample[netstate.Kin]{Known: true, Count: 2, First: []netstate.Kin{{PID: 77, Name: "worker"}, {PID: 78, Name: "wor\nker"}}},
			Group:    netstate.Sample[netstate.Kin]{Known: true, Count: 6, First: []netstate.Kin{{PID: 77, Name: "worker"}, {PID: 4212, Name: "node"}, {PID: 4300, Name: "tee"}}},
			Writing:  netstate.Sample[string]{Known: true, Count: 7, First: []string{"/a", "/b\x1b", "/c", "/d", "/e"}},
		},
	}}
	want := []string{
		"node 4211 has run for 12 d",
		"the children of node 4211 go on: worker 77 and wor?ker 78",
		"not signalled, though in the process group of node 4211: tee 4300 and 3 more",
		"node 4211 writes to /a, /b?, /c, /d and 3 more",
	}
	if got := impactRisks(&im, []netstate.Holder{node, young}, at); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	// Another process with the number has another impact.
	im.Holders[1].ID.Start++
	if got := impactRisks(&im, []netstate.Holder{node}, at); !slices.Equal(got, want[:1]) {
		t.Errorf("got %q, want %q", got, want[:1])
	}
	im.Holders[1] = netstate.HolderImpact{ID: node.ID, Children: netstate.Sample[netstate.Kin]{Known: true, AtLeast: true, Count: 1, First: []netstate.Kin{{PID: 77, Name: "worker"}}}}
	if got := impactRisks(&im, []netstate.Holder{node}, at)[1]; got != "the children of node 4211 go on: worker 77 and perhaps more" {
		t.Errorf("got %q", got)
	}
}

func TestTypedInPlace(t *testing.T) {
	const session = 800
	in := func(session int) netstate.HolderImpact { return netstate.HolderImpact{Session: session} }
	child := func(h netstate.Holder, parent int) netstate.Holder {
		h.Parents = []netstate.Parent{{PID: parent}}
		return h
	}
	activated := process(5, "web")
	activated.Supervisor = &netstate.Supervisor{Kind: netstate.SupervisorSystemd, PID: 1, HoldsPort: true}
	for name, c := range map[string]struct {
		h    netstate.Holder
		im   netstate.HolderImpact
		says string // empty: no name is asked for
	}{
		"a server in this session":      {process(5, "node"), in(session), ""},
		"a shell in this session":       {process(5, "bash"), in(session), "a shell in this terminal"},
		"a login shell":                 {process(5, "-zsh"), in(session), "a shell in this terminal"},
		"a shell in another session":    {process(5, "bash"), in(70), ""},
		"a shell, session not known":    {process(5, "bash"), in(0), ""},
		"a shell of an ancestor":        {child(process(5, "bash"), 700), in(70), "a shell beside this one"},
		"a shell of process 1":          {child(process(5, "bash"), 1), in(70), ""},
		"tmux":                          {process(5, "tmux: server"), in(70), "all tmux windows"},
		"a part of systemd":             {process(5, "systemd-resolve"), in(70), "part of the system"},
		"what systemd holds a port for": {activated, in(70), ""},
	} {
		if got := me().typedInPlace(c.h, c.im, session); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want it to say %q", name, got, c.says)
		}
	}
	if got := me().typedInPlace(process(5, "bash"), in(0), 0); got != "" {
		t.Errorf("two sessions that are not known count as one: %q", got)
	}
}
