package main

import "context"

func runServe(ctx context.Context, args []string, std stdio) error {
	c, err := newFlags("serve [flags]", "Runs the server.", settings).parseOnly(args, std.env)
	if err == nil {
		err = c.requireAll()
	}
	if err != nil {
		return err
	}
	logger := newLogger(c, std.err)
	logger.Debug("configuration", "config", c)
	in, err := newInstance(ctx, c, logger)
	if err != nil {
		return err
	}
	return in.run(ctx)
}
