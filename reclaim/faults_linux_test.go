package reclaim_test

func free([]string)  {}
func reuse([]string) {}
