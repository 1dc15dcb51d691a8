package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

func runVersion(_ context.Context, args []string, std stdio) error {
	flags := newFlags("version", "Prints the version, the commit it was built from, and the Go version.", nil)
	if _, err := flags.parseOnly(args, std.env); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "rowcast %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// buildVersion is what the Go tool recorded in the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return describeBuild(info)
}

func describeBuild(info *debug.BuildInfo) string {
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	recorded := map[string]string{}
	for _, s := range info.Settings {
		recorded[s.Key] = s.Value
	}
	if commit := recorded["vcs.revision"]; commit != "" {
		version += " " + commit[:min(12, len(commit))]
		if recorded["vcs.modified"] == "true" {
			version += " modified"
		}
	}
	return version
}
