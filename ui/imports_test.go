package ui_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is one parsed file that is not a test.
type source struct {
	pkg     string // directory from the module's root, "." for the root
	name    string
	file    *ast.File
	imports []string
}

func parseModule(t *testing.T) []source {
	t.Helper()
	const root = ".."
	var all []source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != root && (strings.HasPrefix(base, ".") || base == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		s := source{pkg: path.Dir(filepath.ToSlash(rel)), name: filepath.ToSlash(rel), file: f}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d source files were found", len(all))
	}
	return all
}

func within(pkg, tree string) bool { return pkg == tree || strings.HasPrefix(pkg, tree+"/") }

func anyWithin(pkg string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return within(pkg, tree) })
}

// TestImportDirection holds the order of the packages: each may import only
// what stands before it.
func TestImportDirection(t *testing.T) {
	allowed := []struct {
		tree string
		may  []string
	}{
		{"netstate", []string{"netstate"}},
		{"reclaim", []string{"netstate", "reclaim"}},
		{"gatewaylaunch", []string{"netstate", "reclaim", "gatewaylaunch"}},
		{"ui/theme", []string{"ui/draw"}},
		{"ui/draw", nil},
		{"ui/screen", []string{"ui/draw"}},
		{"ui/noquery", nil},
		{"ui/report", []string{"netstate", "reclaim", "gatewaylaunch", "ui/draw", "ui/report"}},
		{"ui/cli", []string{"netstate", "reclaim", "gatewaylaunch", "ui"}},
		{"ui", []string{"netstate", "reclaim", "gatewaylaunch", "ui/draw", "ui/theme"}},
		{"screenshots", []string{"ui"}},
		{".", []string{"ui/cli", "gatewaylaunch/bindnotify"}},
	}
	for _, s := range parseModule(t) {
		i := slices.IndexFunc(allowed, func(a struct {
			tree string
			may  []string
		}) bool {
			return s.pkg == a.tree || a.tree != "." && a.tree != "ui" && within(s.pkg, a.tree)
		})
		if i < 0 {
			t.Errorf("%s: package %s has no place in the order of imports", s.name, s.pkg)
			continue
		}
		for _, imp := range s.imports {
			if own, ok := strings.CutPrefix(imp, "berth/"); ok && !anyWithin(own, allowed[i].may...) {
				t.Errorf("%s imports %s; %s may import only %v", s.name, imp, s.pkg, allowed[i].may)
			}
		}
	}
}

// TestOnlyNetstateReadsTheSystem: process and socket facts reach the others as
// values, so that they are read in one place and in one way.
func TestOnlyNetstateReadsTheSystem(t *testing.T) {
	readers := []string{"github.com/cakturk/go-netstat", "github.com/shirou/gopsutil", "github.com/vishvananda/netlink", "github.com/cilium/ebpf"}
	for _, s := range parseModule(t) {
		if within(s.pkg, "netstate") {
			continue
		}
		for _, imp := range s.imports {
			if anyWithin(imp, readers...) {
				t.Errorf("%s imports %s", s.name, imp)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(lit.Value, "/proc/net") {
				t.Errorf("%s names %s", s.name, lit.Value)
			}
			return true
		})
	}
}

// TestEngineKnowsNoScreen: the engine and the reports serve scripts as well,
// and importing bubbletea has effects of its own (see ui/noquery).
func TestEngineKnowsNoScreen(t *testing.T) {
	screen := []string{"github.com/charmbracelet/bubbletea", "github.com/charmbracelet/lipgloss", "github.com/charmbracelet/bubbles"}
	for _, s := range parseModule(t) {
		if !anyWithin(s.pkg, "netstate", "reclaim", "gatewaylaunch", "ui/report", "ui/teach", "ui/draw") {
			continue
		}
		for _, imp := range s.imports {
			if anyWithin(imp, screen...) {
				t.Errorf("%s imports %s", s.name, imp)
			}
		}
	}
}

// TestScreenIsPure: the TUI's state changes by messages alone, so it reads no
// clock and touches neither network nor processes; what it needs, its Engine
// does.
func TestScreenIsPure(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTicker", "NewTimer"}
	for _, s := range parseModule(t) {
		if s.pkg != "ui" {
			continue
		}
		for _, imp := range s.imports {
			if slices.Contains([]string{"os/exec", "net", "syscall", "golang.org/x/sys/unix"}, imp) {
				t.Errorf("%s imports %s", s.name, imp)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, sel.Sel.Name) {
				t.Errorf("%s calls time.%s", s.name, sel.Sel.Name)
			}
			return true
		})
	}
}

// TestOnlyMainExits: everybody else returns, so that terminals are restored
// and files are closed. The lab is exempt: it is the main function of tests.
func TestOnlyMainExits(t *testing.T) {
	for _, s := range parseModule(t) {
		if s.pkg == "." || s.pkg == "screenshots" || s.pkg == "netstate/lab" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "os" && sel.Sel.Name == "Exit" {
				t.Errorf("%s calls os.Exit", s.name)
			}
			return true
		})
	}
}

// TestModuleSortsFirst: packages initialise in the order of their paths, and
// ui/noquery must come before bubbletea.
func TestModuleSortsFirst(t *testing.T) {
	if a, b := "berth/ui/noquery", "github.com/charmbracelet/bubbletea"; a >= b {
		t.Errorf("%s does not sort before %s", a, b)
	}
	for _, s := range parseModule(t) {
		if s.pkg == "ui/cli" && slices.Contains(s.imports, "berth/ui/noquery") {
			return
		}
	}
	t.Error("ui/cli, through which main reaches bubbletea, does not import berth/ui/noquery")
}
