package content

import "fmt"

// FullError refuses bytes for which the budget of the store has no room. All figures are in bytes.
type FullError struct {
	Asked    int64 // what the caller wants to store
	Used     int64 // what the store takes on disk
	Reserved int64 // what other uploads may still bring
	Budget   int64 // what an operator allows
	Limit    int64 // up to which uploads are taken, somewhat above the budget
}

// Error says which figures are in the way, and what can be done about it.
func (e *FullError) Error() string {
	budget := bytesText(e.Budget)
	switch {
	case e.Asked > e.Limit:
		return fmt.Sprintf("this needs %s, and the budget of the whole registry is %s (cache.max_size); "+
			"send less, or have its operator raise the budget", bytesText(e.Asked), budget)
	case !e.Helps():
		return fmt.Sprintf("this needs %s, and other uploads have reserved %s of the registry's budget of %s "+
			"(cache.max_size); try again when they have ended", bytesText(e.Asked), bytesText(e.Reserved), budget)
	}
	return fmt.Sprintf("this needs %s, and the registry uses %s of its budget of %s (cache.max_size), of which "+
		"nothing may go yet; try again later, or have its operator raise the budget, delete images, unpin some, or "+
		"shorten cache.grace", bytesText(e.Asked), bytesText(e.Used), budget)
}

// Helps says whether the bytes would fit if the store used fewer.
func (e *FullError) Helps() bool { return e.Reserved+e.Asked <= e.Limit }

// bytesText is a number of bytes for people: "512 B", "97.3 GiB".
func bytesText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/(1<<10), 0
	for ; size >= 1<<10; unit++ {
		size /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", size, "KMGTPE"[unit])
}
