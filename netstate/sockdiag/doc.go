// Package sockdiag speaks NETLINK_SOCK_DIAG, the kernel's own interface to
// its TCP sockets: it dumps them, reports their end, and destroys single ones.
//
// A dump is one walk over both address families into a reused buffer, with
// no allocation for each socket:
//
//	conn, err := sockdiag.Dial()
//	…
//	defer conn.Close()
//	err = conn.Dump(sockdiag.Query{States: sockdiag.AllStates}, func(r *sockdiag.Record) bool {
//		fmt.Println(r.State, r.LocalPort)
//		return true
//	})
//
// The walk goes through the kernel's compatibility request TCPDIAG_GETSOCK,
// because it is the only one that takes AF_UNSPEC: a walk for each family
// costs the hash table twice. Everything here needs Linux; bound sockets need
// Linux 6.8 and destroying needs CAP_NET_ADMIN.
package sockdiag
