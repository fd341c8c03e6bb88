package rule

// Size is a number of bytes, or a share of a file system. The zero Size is none.
type Size struct {
	Bytes   int64   `json:"bytes,omitempty"`
	Percent float64 `json:"percent,omitempty"` // 0 to 100; 0: Bytes counts
}

// Of returns the size in bytes, on a file system of so many.
func (s Size) Of(disk int64) int64 {
	if s.Percent != 0 {
		return int64(s.Percent / 100 * float64(disk))
	}
	return s.Bytes
}

// Budget bounds what is stored, beside the lives of images.
type Budget struct {
	MaxSize Size `json:"max_size,omitzero"` // what the store may take of its disk; zero: no bound
	MinFree Size `json:"min_free,omitzero"` // what stays free of the disk, also for others; zero: no bound
}
