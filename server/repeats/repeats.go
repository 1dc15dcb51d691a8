// Package repeats keeps clients from filling the log. What somebody can cause as often as he may join or send is said at once, and then
// at most once in a while, with how often it was left out.
package repeats

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// Every is how long a line about the same is not said again.
	Every = time.Minute
	// Most is how many keys are remembered of a line. What is about others meanwhile shares one.
	Most = 100
)

// Log says lines that can be repeated. Its zero value is ready for use, and a nil one says everything.
type Log struct {
	mu    sync.Mutex                   // guards lines
	lines map[string]map[string]saying // by message, of which a program has so many, and by key
}

// saying is when a line was said about a key, and how often it has been left out since.
type saying struct {
	at      time.Time
	leftOut int
}

// Say logs a line unless the same was said about the key a while ago. msg is a constant of the program's; a client may choose the key.
func (l *Log) Say(logger *slog.Logger, level slog.Level, key, msg string, args ...any) {
	leftOut, ok := l.next(key, msg)
	if !ok {
		return
	}
	if leftOut > 0 {
		args = append(args[:len(args):len(args)], "left_out", leftOut)
	}
	logger.Log(context.Background(), level, msg, args...)
}

// next tells whether a line may be said, and how many were left out since the last that was.
func (l *Log) next(key, msg string) (leftOut int, ok bool) {
	if l == nil {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.lines == nil {
		l.lines = map[string]map[string]saying{}
	}
	said := l.lines[msg]
	if said == nil {
		said = map[string]saying{}
		l.lines[msg] = said
	}
	last, known := said[key]
	if !known && len(said) >= Most && !forget(said, now) {
		key = others
		last, known = said[key]
	}
	if known && now.Sub(last.at) < Every {
		last.leftOut++
		said[key] = last
		return 0, false
	}
	said[key] = saying{at: now}
	return last.leftOut, true
}

// others is the key of all for whom there is no room.
const others = "\x00others"

// forget makes room: what was said long ago would be said again anyhow. How often that was left out is told of others.
func forget(said map[string]saying, now time.Time) (room bool) {
	leftOut := 0
	for key, s := range said {
		if key != others && now.Sub(s.at) >= Every {
			leftOut += s.leftOut
			delete(said, key)
			room = true
		}
	}
	if leftOut > 0 {
		rest := said[others]
		rest.leftOut += leftOut
		said[others] = rest
	}
	return room
}
