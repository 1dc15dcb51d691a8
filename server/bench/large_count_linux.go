package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// latencies are when something began, and what it took. They may be collected by any goroutine.
type latencies struct {
	mu    sync.Mutex // guards those below
	began []time.Time
	ended map[int]time.Time
	again int // how often something ended that had ended
}

// start notes a beginning; what comes out of it has this number.
func (l *latencies) start(at time.Time) (number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = append(l.began, at)
	return len(l.began) - 1
}

// next is the number that start will give; what comes of it may be there before.
func (l *latencies) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.began)
}

func (l *latencies) end(number int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended = map[int]time.Time{}
	}
	if _, ended := l.ended[number]; ended {
		l.again++
		return
	}
	l.ended[number] = at
}

// open is how many have not ended.
func (l *latencies) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.began) - len(l.ended)
}

// twice is how often something came that had come.
func (l *latencies) twice() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.again
}

// timeOfDay is how times are told.
const timeOfDay = "15:04:05.000"

// missing says which have not ended: how many, and runs of their numbers with the times when they began.
func (l *latencies) missing() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var runs []string
	count := 0
	for i := 0; i < len(l.began); i++ {
		first := i
		for ; i < len(l.began); i++ {
			if _, ended := l.ended[i]; ended {
				break
			}
		}
		if count += i - first; i > first {
			runs = append(runs, fmt.Sprintf("%d to %d (%s to %s)", first, i-1, l.began[first].Format(timeOfDay), l.began[i-1].Format(timeOfDay)))
		}
	}
	if count == 0 {
		return fmt.Sprintf("none (of %d)", len(l.began))
	}
	return fmt.Sprintf("%d (of %d): %s", count, len(l.began), strings.Join(runs, ", "))
}

// within are those that began in this time.
func (l *latencies) within(from, to time.Time) waits {
	l.mu.Lock()
	defer l.mu.Unlock()
	var began []time.Time
	var ended []time.Time
	for i, at := range l.began {
		if !at.Before(from) && at.Before(to) {
			began, ended = append(began, at), append(ended, l.ended[i])
		}
	}
	return newWaits(began, func(i int) time.Time { return ended[i] })
}

// oddities are the first things told that nobody asked for. They may be collected by any goroutine.
type oddities struct {
	mu    sync.Mutex // guards texts
	texts []string
}

func (o *oddities) add(payload []byte, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.texts) < 20 {
		o.texts = append(o.texts, fmt.Sprintf("%s %.300s", at.Format(timeOfDay), payload))
	}
}

func (o *oddities) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.texts) == 0 {
		return "nothing"
	}
	return strings.Join(o.texts, "\n")
}

// numberMark is followed by a number in what send_number.sql sends, as Postgres prints it.
const numberMark = `"number": `

// readNumber finds it in what a client was sent.
func readNumber(payload []byte) (number int, ok bool) {
	_, rest, ok := bytes.Cut(payload, []byte(numberMark))
	end := bytes.IndexAny(rest, ",}")
	if !ok || end < 0 {
		return 0, false
	}
	number, err := strconv.Atoi(string(rest[:end]))
	return number, err == nil
}

// countsOf are a server's metrics of certain names that are not zero.
func countsOf(text, prefix, suffix string) string {
	var found []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name := line[:strings.IndexAny(line+" ", "{ ")]
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) && !strings.HasSuffix(line, " 0") {
			found = append(found, line)
		}
	}
	return strings.Join(found, "\n")
}
