package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// section is what a series found.
type section struct {
	title string
	rows  [][]string // the first is the header
	bars  []bar
	notes []string
}

// bar is a figure and what it has to be.
type bar struct {
	what   string
	figure float64
	limit  float64
	atMost bool // else at least
	unit   string
	noisy  bool // others disturbed a measurement behind it
}

func (b bar) cleared() bool {
	if b.atMost {
		return b.figure <= b.limit
	}
	return b.figure >= b.limit
}

func (b bar) String() string {
	verdict, side := "pass", "at least"
	if !b.cleared() {
		verdict = "FAIL"
	}
	if b.atMost {
		side = "at most"
	}
	star := ""
	if b.noisy {
		star = " *"
	}
	return fmt.Sprintf("%s  %s: %s%s (%s %s%s)%s", verdict, b.what, figure(b.figure), b.unit, side, figure(b.limit), b.unit, star)
}

// print writes the section and tells whether all its bars were cleared.
func (s section) print(w io.Writer) (cleared bool) {
	fmt.Fprintf(w, "\n%s\n\n", s.title)
	widths := make([]int, len(s.rows[0]))
	for _, row := range s.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range s.rows {
		line := ""
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line += "  " + cell + space // names to the left, figures to the right
			} else {
				line += "   " + space + cell
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	if len(s.bars)+len(s.notes) > 0 {
		fmt.Fprintln(w)
	}
	cleared = true
	for _, b := range s.bars {
		fmt.Fprintf(w, "  %s\n", b)
		cleared = cleared && b.cleared()
	}
	for _, note := range s.notes {
		fmt.Fprintf(w, "  %s\n", note)
	}
	return cleared
}

// figure writes a number with about three digits.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 10000:
		return fmt.Sprintf("%.0f k", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// milliseconds writes a duration.
func milliseconds(d time.Duration) string { return figure(float64(d) / float64(time.Millisecond)) }

// median is the middle, or the mean of both middles; 0 of nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
