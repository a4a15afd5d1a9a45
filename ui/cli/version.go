package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"berth/ui/report"
)

// version is what the build says about itself. What it does not say is empty.
type version struct {
	Schema   int     `json:"schema"`
	Version  string  `json:"version"`
	Revision *string `json:"revision"`
	Modified *bool   `json:"modified"`
	Go       string  `json:"go"`
	Platform string  `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print the version of berth",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			if a.json {
				return report.Encode(a.Out, v)
			}
			line := fmt.Sprintf("berth %s, %s, %s", v.Version, v.Go, v.Platform)
			if v.Revision != nil {
				line += ", revision " + *v.Revision
			}
			_, err := fmt.Fprintln(a.Out, line)
			return err
		},
	}
}

func buildVersion() version {
	v := version{
		Schema: report.Schema, Version: "(devel)",
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = &s.Value
		case "vcs.modified":
			modified := s.Value == "true"
			v.Modified = &modified
		}
	}
	return v
}
