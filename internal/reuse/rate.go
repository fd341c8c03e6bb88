package reuse

// rate says how likely an object is sampled: a part of all objects, and more of those with more bytes.
type rate struct{ perObject, perByte float64 }

// all samples every object.
var all = rate{1, 1}

// chance is the probability that an object of so many bytes is sampled.
func (r rate) chance(size int64) float64 { return min(1, r.perObject+r.perByte*float64(size)) }

// samples says whether an object is in the sample: its key, as a part of all keys, is below its chance.
func (r rate) samples(k Key, size int64) bool { return float64(k)*0x1p-64 < r.chance(size) }

// most is the rate that is no more than r, and by which about so many of a number of objects are sampled, which have
// so many bytes together. Half of the sample is chosen by number and half by bytes.
func (r rate) most(sample, objects, bytes float64) rate {
	if objects > 0 {
		r.perObject = min(r.perObject, sample/2/objects)
	}
	if bytes > 0 {
		r.perByte = min(r.perByte, sample/2/bytes)
	}
	return r
}
