package netstate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The texts below have the columns that the systems print, in their widths.

const darwin14 = `Active Internet connections (including servers)
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)     rhiwat shiwat    pid   epid  state    options
tcp46      0      0  *.3000                 *.*                    LISTEN      131072 131072  33784      0 0x0100 0x00000106
tcp4       0      0  127.0.0.1.18789        *.*                    LISTEN      131072 131072  24811      0 0x0000 0x00000006
tcp6       0      0  ::1.18789              *.*                    LISTEN      131072 131072  24811      0 0x0000 0x00000006
tcp4       0     12  127.0.0.1.18789        127.0.0.1.52216        ESTABLISHED 403346 146988  24811      0 0x0102 0x00000104
tcp4       0      0  127.0.0.1.18789        127.0.0.1.52217        TIME_WAIT   407280 146988  24811      0 0x2131 0x00000104
tcp4       0      0  127.0.0.1.18790        *.*                    CLOSED      131072 131072  24812      0 0x0000 0x00000004
tcp4       0      0  *.*                    *.*                    CLOSED      131072 131072  24812      0 0x0000 0x00000000
udp4       0      0  *.5353                 *.*                                786896   9216    417      0 0x0100 0x00000204
`

const darwin15 = `Active Internet connections (including servers)
Proto Recv-Q Send-Q  Local Address                                 Foreign Address                               (state)          rxbytes      txbytes  rhiwat  shiwat          process:pid    state  options           gencnt    flags   flags1 usecnt rtncnt fltrs
tcp46      0      0  *.18789                                       *.*                                           LISTEN                 0            0  131072  131072             node:59043  00100 00000106 000000000081eda0 00000001 00000800      1      0 000000
tcp4       0      0  10.0.0.218.53107                              23.216.5.151.443                              ESTABLISHED    157106582        2016 4194240  131712  Code - Insiders:661    00102 00020000 0000000000077161 00180081 040c0900      2      0 000000
tcp4       0      0  127.0.0.1.18789                               127.0.0.1.52217                               CLOSE_WAIT             0            0  131072  131072 Antigravity IDE :2086   00102 00000008 0000000000077162 00180081 040c0900      2      0 000000
tcp6       0      0  fe80::aede:48ff:fe00:1122%en5.49152           fe80::1%en5.7000                              FIN_WAIT_2             0            0  131072  131072         rapportd:512    00102 00000008 0000000000077163 00180081 040c0900      2      0 000000
tcp4       0      0  127.0.0.1.18789                               127.0.0.1.52218                               TIME_WAIT              0            0  131072  131072                 :0      02131 00000104 0000000000077164 00180081 040c0900      2      0 000000
`

func TestParseDarwinNetstat(t *testing.T) {
	ap := netip.MustParseAddrPort
	for _, c := range []struct {
		name, text string
		want       []Socket
	}{
		{"macOS 14", darwin14, []Socket{
			{Local: ap("[::]:3000"), Family: INET6, State: Listen, V6Only: No, PID: 33784},
			{Local: ap("127.0.0.1:18789"), Family: INET, State: Listen, PID: 24811},
			{Local: ap("[::1]:18789"), Family: INET6, State: Listen, V6Only: Yes, PID: 24811},
			{Local: ap("127.0.0.1:18789"), Remote: ap("127.0.0.1:52216"), Family: INET, State: Established, PID: 24811, SendQ: 12},
			{Local: ap("127.0.0.1:18789"), Remote: ap("127.0.0.1:52217"), Family: INET, State: TimeWait},
			{Local: ap("127.0.0.1:18790"), Family: INET, State: Bound, PID: 24812},
		}},
		{"macOS 15", darwin15, []Socket{
			{Local: ap("[::]:18789"), Family: INET6, State: Listen, V6Only: No, PID: 59043},
			{Local: ap("10.0.0.218:53107"), Remote: ap("23.216.5.151:443"), Family: INET, State: Established, PID: 661},
			{Local: ap("127.0.0.1:18789"), Remote: ap("127.0.0.1:52217"), Family: INET, State: CloseWait, PID: 2086},
			{Local: ap("[fe80::aede:48ff:fe00:1122%en5]:49152"), Remote: ap("[fe80::1%en5]:7000"), Family: INET6, State: FinWait2, PID: 512},
			{Local: ap("127.0.0.1:18789"), Remote: ap("127.0.0.1:52218"), Family: INET, State: TimeWait},
		}},
		{"nothing", "", nil},
		{"no sockets", strings.Join(strings.SplitAfter(darwin14, "\n")[:2], ""), nil},
	} {
		got, skipped := parseDarwinNetstat([]byte(c.text), nil)
		compare(t, c.name, got, c.want)
		if skipped != 0 {
			t.Errorf("%s: %d lines skipped", c.name, skipped)
		}
	}
}

const freebsd14 = `USER     COMMAND    PID   FD  PROTO  LOCAL ADDRESS                                 FOREIGN ADDRESS                               PATH STATE   CONN STATE
root     sshd         734 3   tcp6   *:22                                          *:*                                                        LISTEN
root     sshd         734 4   tcp4   *:22                                          *:*                                                        LISTEN
me       Web Conten  4211 17  tcp46  *:18789                                       *:*                                                        LISTEN
me       Web Conten  4212 17  tcp46  *:18789                                       *:*                                                        LISTEN
me       Web Conten  4212 18  tcp46  *:18789                                       *:*                                                        LISTEN
me       node        4213 9   tcp4   127.0.0.1:18789                               127.0.0.1:51000                                            ESTABLISHED
me       node        4213 11  tcp4   127.0.0.1:18790                               *:*                                                        CLOSED
me       node        4213 12  tcp6   fe80::1%lo0:18791                             fe80::1%lo0:51001                                          LAST_ACK
me       node        4213 13  tcp4   *:*                                           *:*                                                        CLOSED
?        ?          ?     ?   tcp4   127.0.0.1:18789                               127.0.0.1:51002                                            TIME_WAIT
`

func TestParseSockstat(t *testing.T) {
	ap := netip.MustParseAddrPort
	got, skipped := parseSockstat([]byte(freebsd14), nil)
	// A socket is listed once for each process that has it, never twice for
	// one.
	compare(t, "FreeBSD 14", got, []Socket{
		{Local: ap("[::]:22"), Family: INET6, State: Listen, V6Only: Yes, PID: 734},
		{Local: ap("0.0.0.0:22"), Family: INET, State: Listen, PID: 734},
		{Local: ap("[::]:18789"), Family: INET6, State: Listen, V6Only: No, PID: 4211},
		{Local: ap("[::]:18789"), Family: INET6, State: Listen, V6Only: No, PID: 4212},
		{Local: ap("127.0.0.1:18789"), Remote: ap("127.0.0.1:51000"), Family: INET, State: Established, PID: 4213},
		{Local: ap("127.0.0.1:18790"), Family: INET, State: Bound, PID: 4213},
		{Local: ap("[fe80::1%lo0]:18791"), Remote: ap("[fe80::1%lo0]:51001"), Family: INET6, State: LastAck, PID: 4213},
		{Local: ap("127.0.0.1:18789"), Remote: ap("127.0.0.1:51002"), Family: INET, State: TimeWait},
	})
	if skipped != 0 {
		t.Errorf("%d lines skipped", skipped)
	}
}

func TestBSDTablesCountWhatTheyDoNotUnderstand(t *testing.T) {
	header := strings.Join(strings.SplitAfter(darwin14, "\n")[:2], "")
	for _, line := range []string{
		"tcp4       0      0  127.0.0.1.18789",
		"tcp4       0      0  127.0.0.1.18789        *.*                    DREAMING    131072 131072  24811",
		"tcp4       0      0  127.0.0.1.99999        *.*                    LISTEN      131072 131072  24811",
		"tcp4       0      0  localhost.18789        *.*                    LISTEN      131072 131072  24811",
		"tcp4       0      0  18789                  *.*                    LISTEN      131072 131072  24811",
	} {
		if got, skipped := parseDarwinNetstat([]byte(header+line+"\n"), nil); len(got) != 0 || skipped != 1 {
			t.Errorf("netstat %q: %+v, %d skipped", line, got, skipped)
		}
	}
	for _, line := range []string{
		"me       node        4213 9   tcp4   127.0.0.1:18789",
		"me       node        4213 9   tcp4   127.0.0.1:18789   127.0.0.1:51000   DREAMING",
		"me       node        4213 9   tcp4   127.0.0.1:18789   127.0.0.1:nine   LISTEN",
		"something else",
	} {
		if got, skipped := parseSockstat([]byte(line+"\n"), nil); len(got) != 0 || skipped != 1 {
			t.Errorf("sockstat %q: %+v, %d skipped", line, got, skipped)
		}
	}
}

func compare(t *testing.T, name string, got, want []Socket) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range max(len(got), len(want)) {
		var g, w Socket
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s, socket %d:\n got %+v\nwant %+v", name, i, g, w)
		}
	}
}

func FuzzBSDTables(f *testing.F) {
	f.Add(darwin14)
	f.Add(darwin15)
	f.Add(freebsd14)
	f.Add("tcp4 0 0 *.80 *.* LISTEN 0 0 0 0 name:-5\n")
	f.Add("me name -5 3 tcp4 *:80 *:* LISTEN\n")
	f.Fuzz(func(t *testing.T, text string) {
		one, _ := parseDarwinNetstat([]byte(text), nil)
		two, _ := parseSockstat([]byte(text), nil)
		for _, s := range append(one, two...) {
			if !s.Local.IsValid() || s.Local.Port() == 0 || s.PID < 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}
