// Package printable makes text that others chose fit for a terminal.
package printable

import (
	"strings"
	"unicode"
)

// Text keeps what users, tokens and policies say from steering the terminal.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
