package main

import "context"

// shortSecret is the size of an HS256 key: RFC 7518 wants no shorter one.
const shortSecret = 32

func runServe(ctx context.Context, args []string, std stdio) error {
	c, err := newFlags("serve [flags]", "Runs the server.", settings).parseOnly(args, std.env)
	if err == nil {
		err = c.requireAll()
	}
	if err != nil {
		return err
	}
	logger := newLogger(c, std.err)
	logger.Info("configuration", "config", c)
	if c.JWTSecret != "" && len(c.JWTSecret) < shortSecret {
		logger.Warn("JWT_SECRET is short enough to be guessed", "bytes", len(c.JWTSecret), "want", shortSecret)
	}
	in, err := newInstance(ctx, c, logger)
	if err != nil {
		return err
	}
	return in.run(ctx)
}
