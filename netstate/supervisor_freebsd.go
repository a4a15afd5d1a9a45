package netstate

// rawEnviron is not told by this package's means.
func rawEnviron(int) []string { return nil }
