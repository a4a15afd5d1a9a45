// Package ui is berth's full-screen program.
//
// There is one tea.Model, Model. Pages and dialogs are plain structs that it
// owns and calls. Everything that happens outside comes in as a message with
// its time, and everything that is wanted outside goes out as an effect, which
// is data: Update reads no clock and does no I/O, View changes nothing, and a
// test or a scene can play both on a time of its own.
//
//	keys, readings, events ──▶ Model.handle ──▶ effects ──▶ runner ──▶ Engine
//	                              │
//	                              └──▶ View
//
// Run runs it on a terminal:
//
//	farewell, err := ui.Run(ctx, engine, ui.Options{Theme: look}, os.Stdin, os.Stdout)
//
// Scenes plays the same program on a scripted machine; the README's pictures
// and the tests' goldens are its frames.
package ui
