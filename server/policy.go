package main

import "context"

// policyCommands are for those who write policies.
func policyCommands() family {
	return family{"rowcast policy", "For those who write policies.", []command{
		{"lint", "find unsafe policies and grants", runPolicyLint},
		{"test", "try what a file expects: who may receive and send what", runPolicyTest},
		{"diff", "whom of those connected now a change would cut off or let in", runPolicyDiff},
	}}
}

func runPolicy(ctx context.Context, args []string, std stdio) error {
	_, err := policyCommands().dispatch(ctx, args, std)
	return err
}
