package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/ui"
)

// TestPicturesAreCurrent draws every picture again and compares it with the
// one in the repository, byte for byte.
func TestPicturesAreCurrent(t *testing.T) {
	files, err := draw(ui.Scenes())
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("there are no scenes")
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
		got, err := os.ReadFile(f.name)
		if err != nil {
			t.Errorf("%v: draw it with go run ./screenshots", err)
			continue
		}
		// A checkout may have turned the line ends.
		got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n"))
		if !bytes.Equal(got, f.data) {
			t.Errorf("%s is not what berth looks like now: draw it again with go run ./screenshots", f.name)
		}
	}
	for _, pattern := range []string{"*.svg", "*.cast"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			if !slices.Contains(names, name) {
				t.Errorf("%s belongs to no scene: remove it", name)
			}
		}
	}
}

// TestPicturesAreSmall keeps the README quick to load.
func TestPicturesAreSmall(t *testing.T) {
	const still, moving = 15_000, 150_000
	files, err := draw(ui.Scenes())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		limit := still
		if strings.HasSuffix(f.name, ".cast") || bytes.Contains(f.data, []byte("@keyframes")) {
			limit = moving
		}
		if len(f.data) > limit {
			t.Errorf("%s has %d bytes, want at most %d", f.name, len(f.data), limit)
		}
	}
}

// TestDraw makes a still, a film with its recording, and refuses what cannot
// be a picture.
func TestDraw(t *testing.T) {
	frame := func(view string) ui.Frame { return ui.Frame{View: view, Hold: time.Second} }
	scene := func(name string, frames ...ui.Frame) ui.Scene {
		return ui.Scene{Name: name, Title: "t", Width: 4, Height: 1, Frames: frames}
	}
	files, err := draw([]ui.Scene{scene("a", frame("one")), scene("b", frame("one"), frame("two"))})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	if want := []string{"a.svg", "b.svg", "b.cast"}; !slices.Equal(names, want) {
		t.Errorf("pictures %v, want %v", names, want)
	}

	for want, scenes := range map[string][]ui.Scene{
		`two scenes are called "a"`:                   {scene("a", frame("one")), scene("a", frame("two"))},
		`scene "a": it has no frames`:                 {scene("a")},
		`scene "a": frame 2 is larger than 4×1 cells`: {scene("a", frame("one"), frame("three"))},
		`scene "b": frame 1 is larger than 4×1 cells`: {scene("a", frame("one")), scene("b", frame("1\n2"))},
	} {
		if _, err := draw(scenes); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
