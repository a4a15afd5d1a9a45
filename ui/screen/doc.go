// Package screen turns what a terminal program draws into pictures.
//
// Parse reads a view, the string that a bubbletea model returns, as a terminal
// would: into a Grid of cells, each with its text, colours and attributes. A
// grid is then written as plain text (Grid.Text), as a picture (Still), and
// several grids as a moving picture (Animation) or as a recording for
// asciinema players (Cast).
//
// Every result is the same, byte for byte, each time and on every machine:
// coordinates are whole hundredths of a pixel, nothing is iterated in map
// order, and no clock is read. A test can therefore draw a picture again and
// compare it with the file in the repository.
//
// # How the pictures keep their shape
//
// A reader's browser picks its own monospace font, so nothing may depend on a
// font's measures. Each piece of text is an element that begins at the place of
// its first cell and is as long as its cells. Lines, boxes, bars and shades are
// not glyphs but drawn shapes, which join without gaps at any zoom. The palette
// is fixed: it does not ask which colours the reader's terminal has.
//
// # How a film stays small
//
// What is drawn (a bar, a line, a piece of text) is in the file once, however
// many frames show it. Everything that is in the same frames is one group, and
// a group that is not in all of them has a CSS animation that makes it visible
// and hidden in steps. A viewer that shows an image and runs no script, as
// GitHub does for a README, plays that.
package screen
