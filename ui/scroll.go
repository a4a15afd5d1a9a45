package ui

// scroll is a cursor in a list of which only a part is on the screen.
type scroll struct{ at, top int }

// move applies a movement key. page is the number of rows on the screen.
func (s *scroll) move(a action, n, page int) bool {
	switch a {
	case actUp:
		s.at--
	case actDown:
		s.at++
	case actFirst:
		s.at = 0
	case actLast:
		s.at = n - 1
	case actHalfUp:
		s.at -= max(page/2, 1)
	case actHalfDown:
		s.at += max(page/2, 1)
	default:
		return false
	}
	s.clamp(n, page)
	return true
}

// clamp keeps the cursor in the list and on the screen.
func (s *scroll) clamp(n, page int) {
	s.at = max(min(s.at, n-1), 0)
	page = max(page, 1)
	s.top = max(min(s.top, s.at, n-page), 0)
	if s.at >= s.top+page {
		s.top = s.at - page + 1
	}
}

// visible returns the range of the list that is on the screen.
func (s *scroll) visible(n, page int) (from, to int) {
	from = min(s.top, n)
	return from, min(from+max(page, 0), n)
}
