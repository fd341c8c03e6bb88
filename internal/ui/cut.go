package ui

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// ellipsis stands for the characters that are cut out.
const ellipsis = "…"

// cut shortens a text to a width: it cuts off the end.
func cut(text string, width int) string {
	if lipgloss.Width(text) <= width {
		return text
	}
	return head(text, width-1) + ellipsis
}

// head returns as many characters from the beginning of a text as fit.
func head(text string, width int) string {
	runes := []rune(text)
	for len(runes) > 0 && lipgloss.Width(string(runes)) > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes)
}

// tail returns as many characters from the end of a text as fit.
func tail(text string, width int) string {
	runes := []rune(text)
	for len(runes) > 0 && lipgloss.Width(string(runes)) > width {
		runes = runes[1:]
	}
	return string(runes)
}

// CutName shortens a name in its middle, since its beginning and its end distinguish it from its neighbours. Of a path
// it leaves out whole parts where that is enough: "company/…/api-gateway".
func CutName(text string, width int) string {
	if lipgloss.Width(text) <= width {
		return text
	}
	parts := strings.Split(text, "/")
	for _, first := range []string{parts[0] + "/", ""} {
		for i := 2; i < len(parts); i++ {
			short := first + ellipsis + "/" + strings.Join(parts[i:], "/")
			if lipgloss.Width(short) <= width {
				return short
			}
		}
	}
	end := tail(text, width/2)
	return head(text, max(0, width-1-lipgloss.Width(end))) + ellipsis + end
}

// CutList shortens a list that JoinList made, and says how many names it left out: "v1 +2 more".
func CutList(text string, width int) string {
	if lipgloss.Width(text) <= width {
		return text
	}
	names := strings.Split(text, listSeparator)
	for shown := len(names) - 1; shown > 0; shown-- {
		short := JoinList(names[:shown]) + more(len(names)-shown)
		if lipgloss.Width(short) <= width {
			return short
		}
	}
	rest := ""
	if len(names) > 1 {
		rest = more(len(names) - 1)
	}
	if room := width - lipgloss.Width(rest); room >= shortestName {
		return CutName(names[0], room) + rest
	}
	if len(names) == 1 {
		return CutName(names[0], width)
	}
	return cut(fmt.Sprintf("%d in all", len(names)), width)
}

// shortestName is the least width of a name in a list that was cut: a letter at each end.
const shortestName = 3

const listSeparator = ", "

// JoinList joins names into a text that CutList can shorten.
func JoinList(names []string) string { return strings.Join(names, listSeparator) }

func more(n int) string { return fmt.Sprintf(" +%d more", n) }

// CutDigest leaves out the algorithm of a digest, and cuts its sum to the width.
func CutDigest(text string, width int) string {
	if _, sum, ok := strings.Cut(text, ":"); ok {
		text = sum
	}
	return text[:min(len(text), width)]
}
