package explain

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"rowcast/server/printable"
)

// maxExpression is how much of a policy's expression is printed: the rest is in pg_policies.
const maxExpression = 2000

// Print writes the sentence first, then what it follows from, a line each; expressions below their policies.
func (r Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", printable.Text(r.Summary))
	var lines [][]string
	rows := slices.DeleteFunc(slices.Clone(r.Rows), func(row Row) bool { return row.Subject == subjectSummary })
	for _, row := range rows {
		lines = append(lines, []string{row.Subject, about(row), row.Name, row.Value, notes(row)})
	}
	widths := widths(lines)
	shown := ""
	for i, cells := range lines {
		line := ""
		for column, cell := range cells {
			line += printable.Text(cell) + strings.Repeat(" ", max(0, widths[column]-len([]rune(cell)))) + "  "
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		row := rows[i]
		last := i+1 == len(rows) || rows[i+1].Name != row.Name || rows[i+1].Expression != row.Expression
		if row.Expression != "" && last && row.Name+"\x00"+row.Expression != shown {
			shown = row.Name + "\x00" + row.Expression
			fmt.Fprintf(&b, "    %s\n", shorten(printable.Text(strings.Join(strings.Fields(row.Expression), " "))))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func about(row Row) string { return strings.TrimSpace(row.Action + " " + row.Extension) }

func notes(row Row) string {
	if row.Subject == "policy" {
		return fmt.Sprintf("%s, to %s: %s", row.Kind, row.Roles, row.Sentence)
	}
	return row.Sentence
}

// maxWidth keeps one long name or value from pushing everything else off the screen.
const maxWidth = 50

func widths(lines [][]string) []int {
	var widths []int
	for _, cells := range lines {
		for column, cell := range cells {
			if column == len(widths) {
				widths = append(widths, 0)
			}
			if n := len([]rune(cell)); n <= maxWidth && column+1 < len(cells) {
				widths[column] = max(widths[column], n)
			}
		}
	}
	return widths
}

func shorten(text string) string {
	if runes := []rune(text); len(runes) > maxExpression {
		return string(runes[:maxExpression]) + " …"
	}
	return text
}
