package netstate

// mibState translates MIB_TCP_STATE of the Windows IP helper, which numbers
// the states as the TCP MIB does (RFC 4022, tcpConnectionState). State 12, a
// connection that is being deleted, is closed for every purpose here; a number
// that nobody has defined stays 0, which prints as an unknown state.
func mibState(n uint32) State {
	states := [...]State{
		1: Closed, 2: Listen, 3: SynSent, 4: SynRecv, 5: Established, 6: FinWait1,
		7: FinWait2, 8: CloseWait, 9: Closing, 10: LastAck, 11: TimeWait, 12: Closed,
	}
	if n >= uint32(len(states)) {
		return 0
	}
	return states[n]
}
