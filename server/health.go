package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxHealthBody bounds what is repeated of an answer.
const maxHealthBody = 512

func runHealth(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("health [flags]", "Asks the server that runs on ADDR whether it is ready. Exit code 0: ready, 1: not.", settingsNamed("ADDR"))
	timeout := flags.Duration("timeout", 5*time.Second, "how long to wait for the answer, a `duration` (default 5s)")
	config, err := flags.parseOnly(args, std.env)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	address := "http://" + reachable(config.Addr) + "/readyz"
	answer, err := askReady(ctx, address)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.out, answer)
	return err
}

func askReady(ctx context.Context, address string) (string, error) {
	response, err := askServer(ctx, address)
	if err != nil {
		return "", fmt.Errorf("no server answers: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxHealthBody))
	if err != nil {
		return "", fmt.Errorf("read answer of %s: %w", address, err)
	}
	answer := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("not ready: %s %s", response.Status, answer)
	}
	if answer == "" {
		answer = response.Status
	}
	return answer, nil
}

// askServer asks a running server. It has a transport of its own, because the default one would send the question to a proxy.
func askServer(ctx context.Context, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return client.Do(request)
}

// reachable turns an address to listen on into one to connect to.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
