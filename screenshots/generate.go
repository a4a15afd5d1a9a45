// Screenshots draws the pictures of the README from ui.Scenes: a still as SVG,
// and a scene that moves as an animated SVG and as an asciicast.
//
//	go run ./screenshots
//
// Run it from the top of the repository after a change to how berth looks. A
// test of this package fails while a picture in the repository is not what the
// program would draw.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"berth/ui"
	"berth/ui/screen"
)

func main() {
	if err := generate("screenshots"); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

// generate draws every scene into dir.
func generate(dir string) error {
	files, err := draw(ui.Scenes())
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%w: run it from the top of the repository", err)
			}
			return err
		}
		fmt.Printf("%s  %d bytes\n", filepath.Join(dir, f.name), len(f.data))
	}
	return nil
}

// file is a picture and its name in this directory.
type file struct {
	name string
	data []byte
}

// draw returns the pictures of the scenes.
func draw(scenes []ui.Scene) ([]file, error) {
	var files []file
	names := make(map[string]bool)
	for _, s := range scenes {
		if names[s.Name] {
			return nil, fmt.Errorf("two scenes are called %q", s.Name)
		}
		names[s.Name] = true
		frames, err := parse(s)
		if err != nil {
			return nil, fmt.Errorf("scene %q: %w", s.Name, err)
		}
		if len(frames) == 1 {
			files = append(files, file{s.Name + ".svg", screen.Still(s.Title, frames[0].Grid)})
			continue
		}
		files = append(files,
			file{s.Name + ".svg", screen.Animation(s.Title, frames)},
			file{s.Name + ".cast", screen.Cast(s.Title, frames)})
	}
	return files, nil
}

// parse reads the views of a scene. A view that is larger than the scene is an
// error: on a terminal of that size a part of it would be missing.
func parse(s ui.Scene) ([]screen.Frame, error) {
	if len(s.Frames) == 0 {
		return nil, errors.New("it has no frames")
	}
	var frames []screen.Frame
	for i, f := range s.Frames {
		g := screen.Parse(f.View, s.Width, s.Height)
		if g.Cut {
			return nil, fmt.Errorf("frame %d is larger than %d×%d cells", i+1, s.Width, s.Height)
		}
		frames = append(frames, screen.Frame{Grid: g, Hold: f.Hold})
	}
	return frames, nil
}
