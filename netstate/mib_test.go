package netstate

import "testing"

func TestMIBState(t *testing.T) {
	// RFC 4022, tcpConnectionState, in its order.
	names := []string{"CLOSED", "LISTEN", "SYN-SENT", "SYN-RECV", "ESTAB", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT", "CLOSED"}
	for i, name := range names {
		if got := mibState(uint32(i + 1)); got.String() != name {
			t.Errorf("%d is %v, want %s", i+1, got, name)
		}
	}
	for _, n := range []uint32{0, 13, 100, 1 << 31} {
		if got := mibState(n); got != 0 {
			t.Errorf("%d is %v, expected no state", n, got)
		}
	}
}
