package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

// version is set by release builds: -ldflags "-X main.version=1.2.3".
var version string

// BuildInfo says what this binary was made from.
type BuildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source; empty if the build did not know it
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfo() BuildInfo {
	info := BuildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if b, ok := debug.ReadBuildInfo(); ok {
		info.Version = cmp.Or(info.Version, b.Main.Version)
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				info.Revision = s.Value
			}
		}
	}
	if info.Version == "" || info.Version == "(devel)" {
		info.Version = "devel"
	}
	return info
}

// String is one line for people.
func (info BuildInfo) String() string {
	text := "recorder " + info.Version
	if info.Revision != "" {
		text += " " + info.Revision
	}
	return fmt.Sprintf("%s (%s, %s)", text, info.Go, info.Platform)
}

// newBuildInfoMetric returns recorder_build_info, a gauge that is always 1.
func newBuildInfoMetric(info BuildInfo) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "recorder_build_info",
		Help:        "1, with what this binary was built from in the labels.",
		ConstLabels: prometheus.Labels{"version": info.Version, "revision": info.Revision, "goversion": info.Go},
	})
	g.Set(1)
	return g
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  recorder version --json",
		Args:    noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info := buildInfo()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), info)
			}
			fmt.Fprintln(cmd.OutOrStdout(), info)
			return nil
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}
