package main

import (
	"context"
	"fmt"
	"strings"
)

// policyCommands is a function for the same reason as commands.
func policyCommands() []command {
	return []command{
		{"lint", "find unsafe policies and grants", runPolicyLint},
		{"test", "try what a file expects: who may receive and send what", runPolicyTest},
		{"diff", "whom of those connected now a change would cut off or let in", runPolicyDiff},
	}
}

// runPolicy is for those who write policies.
func runPolicy(ctx context.Context, args []string, std stdio) error {
	if len(args) == 0 {
		return usagef("say what to do: %s; see rowcast policy --help", strings.Join(policyNames(), ", "))
	}
	for _, c := range policyCommands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], std)
		}
	}
	if args[0] == "--help" || args[0] == "-help" || args[0] == "-h" {
		return helpAsked(policyOverview())
	}
	return usagef("unknown action %q: %s; see rowcast policy --help", args[0], strings.Join(policyNames(), ", "))
}

func policyNames() []string {
	var names []string
	for _, c := range policyCommands() {
		names = append(names, c.name)
	}
	return names
}

func policyOverview() string {
	var b strings.Builder
	b.WriteString("Usage: rowcast policy " + strings.Join(policyNames(), "|") + " [flags]\n\nFor those who write policies.\n\n")
	for _, c := range policyCommands() {
		fmt.Fprintf(&b, "  %-6s %s\n", c.name, c.summary)
	}
	b.WriteString("\nrowcast policy ACTION --help tells more.\n")
	return b.String()
}
