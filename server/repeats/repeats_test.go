package repeats

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// listening is a log whose lines a test reads.
func listening() (*slog.Logger, func() string) {
	var said bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
	return logger, func() string {
		defer said.Reset()
		return said.String()
	}
}

// A line is said at once, and then once in a while, with how often it was not. What is about others, or something else, is said.
func TestRepeatsAreLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l Log
		logger, said := listening()
		for range 1000 {
			l.Say(logger, slog.LevelWarn, "a", "refused", "who", "a")
		}
		l.Say(logger, slog.LevelWarn, "b", "refused", "who", "b")
		l.Say(logger, slog.LevelWarn, "a", "broken", "who", "a")
		if got, want := said(), "msg=refused who=a\nmsg=refused who=b\nmsg=broken who=a\n"; got != want {
			t.Errorf("said %q", got)
		}
		time.Sleep(Every - time.Nanosecond)
		if l.Say(logger, slog.LevelWarn, "a", "refused"); said() != "" {
			t.Error("said too early")
		}
		time.Sleep(time.Nanosecond)
		l.Say(logger, slog.LevelWarn, "a", "refused", "who", "a")
		l.Say(logger, slog.LevelWarn, "b", "refused", "who", "b")
		if got, want := said(), "msg=refused who=a left_out=1000\nmsg=refused who=b\n"; got != want {
			t.Errorf("then said %q", got)
		}
	})
}

// Whoever makes up keys gets so many lines, and takes no more memory than that; nothing that was left out is forgotten.
func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l Log
		logger, said := listening()
		for i := range 10 * Most {
			l.Say(logger, slog.LevelWarn, fmt.Sprint(i), "refused")
			l.Say(logger, slog.LevelWarn, fmt.Sprint(i), "refused")
		}
		if lines := strings.Count(said(), "\n"); lines != Most+1 || len(l.lines["refused"]) != Most+1 {
			t.Errorf("%d lines, %d keys", lines, len(l.lines["refused"]))
		}
		time.Sleep(Every)
		l.Say(logger, slog.LevelWarn, "another", "refused")
		if keys := len(l.lines["refused"]); said() != "msg=refused\n" || keys != 2 {
			t.Errorf("what is long ago is still there: %d keys", keys)
		}
		for i := range Most + 10 {
			l.Say(logger, slog.LevelWarn, fmt.Sprint(i), "refused")
		}
		if got, want := said(), fmt.Sprintf("left_out=%d\n", 20*Most-(Most+1)); !strings.Contains(got, want) {
			t.Errorf("no line says %q", want)
		}
	})
}

// Without a log everything is said.
func TestNoLogSaysEverything(t *testing.T) {
	t.Parallel()
	logger, said := listening()
	for range 2 {
		(*Log)(nil).Say(logger, slog.LevelWarn, "a", "refused")
	}
	if got := said(); got != "msg=refused\nmsg=refused\n" {
		t.Errorf("said %q", got)
	}
}
