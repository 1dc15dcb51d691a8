package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// Every link of the documentation leads somewhere: to a file, and to a heading where it names one.
func TestLinksInTheDocumentation(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, page := range append(pages, "../README.md", "../CHANGELOG.md") {
		for _, target := range linksOf(t, page) {
			if strings.Contains(target, "://") {
				continue
			}
			links++
			path, anchor, named := strings.Cut(target, "#")
			file := page
			if path != "" {
				file = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s: %v", page, target, err)
			} else if named && !slices.Contains(anchorsOf(t, file), anchor) {
				t.Errorf("%s links to %s, where there is no such heading", page, target)
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links were found", links)
	}
}

// prose is the lines of a page that are not in a fence.
func prose(t *testing.T, page string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	fenced := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		} else if !fenced {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func linksOf(t *testing.T, page string) (targets []string) {
	t.Helper()
	code, link := regexp.MustCompile("`[^`]*`"), regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, line := range prose(t, page) {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
			targets = append(targets, match[1])
		}
	}
	return targets
}

// anchorsOf are the names that GitHub gives the headings of a page.
func anchorsOf(t *testing.T, page string) (anchors []string) {
	t.Helper()
	seen := map[string]int{}
	for _, line := range prose(t, page) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))
		if n := seen[name]; n > 0 {
			anchors = append(anchors, fmt.Sprintf("%s-%d", name, n))
		} else {
			anchors = append(anchors, name)
		}
		seen[name]++
	}
	return anchors
}
