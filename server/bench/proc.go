package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, in which Linux tells times on every platform that Go knows.
const ticksPerSecond = 100

// processSeconds is the CPU time that a process has used; 0 for one that is not there.
func processSeconds(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	seconds, err := parseStat(text)
	if err != nil {
		return 0
	}
	return seconds
}

// parseStat reads utime and stime. The name before them may hold anything, parentheses too.
func parseStat(text []byte) (seconds float64, err error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0, errors.New("read /proc/PID/stat: no name")
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read /proc/PID/stat: too short")
	}
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/PID/stat: %w", err)
		}
		seconds += float64(ticks) / ticksPerSecond
	}
	return seconds, nil
}

// machineSeconds is the CPU time that all cores together were busy, other guests of the host included.
func machineSeconds() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	seconds, err := parseMachine(text)
	if err != nil {
		return 0
	}
	return seconds
}

// parseMachine reads the first line of /proc/stat: cpu user nice system idle iowait irq softirq steal …
func parseMachine(text []byte) (seconds float64, err error) {
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, errors.New("read /proc/stat: no line of all cores")
	}
	for i, field := range fields[1:9] {
		if i == 3 || i == 4 { // idle, iowait
			continue
		}
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		seconds += float64(ticks) / ticksPerSecond
	}
	return seconds, nil
}

// residentKB is how much memory a process has in RAM, and peakKB the most that it ever had.
func residentKB(pid int) (float64, error) { return statusKB(pid, "VmRSS:") }
func peakKB(pid int) (float64, error)     { return statusKB(pid, "VmHWM:") }

func statusKB(pid int, field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	return parseStatus(text, field)
}

// parseStatus reads an amount of memory of /proc/PID/status.
func parseStatus(text []byte, field string) (float64, error) {
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
			kb, err := strconv.ParseUint(number, 10, 64)
			if err != nil || unit != "kB" {
				return 0, fmt.Errorf("read resident memory: %q", line)
			}
			return float64(kb), nil
		}
	}
	return 0, fmt.Errorf("read resident memory: no %s", field)
}
