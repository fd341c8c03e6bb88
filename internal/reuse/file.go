package reuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"time"
)

// A file is: the magic, which ends with the version; the header; two periods; the entries, oldest use first; a CRC-32C
// of all that. All numbers are in little endian. A change of the form is another version.
const (
	magic       = "dcsreuse\x01"
	headerSize  = 3*8 + 2*8 + 4
	periodSize  = 3*8 + 16*(2+distanceBuckets+ageBuckets)
	entrySize   = 8 + 8 + 4 + 1 + 1 + 2
	sumSize     = 4
	withoutAny  = len(magic) + headerSize + 2*periodSize + sumSize
	mostEntries = (MostMemory - withoutAny) / entrySize
)

// MostFile is how long a file may be, in bytes.
const MostFile = MostMemory

// fileSize is how long a file with so many entries is, in bytes.
func fileSize(entries int) int { return withoutAny + entries*entrySize }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// encode appends a file to b.
func (s *state) encode(b []byte, now time.Time) []byte {
	b = append(b, magic...)
	b = appendInts(b, now.UnixMilli(), s.skipped, s.dropped)
	b = appendFloats(b, s.rate.perObject, s.rate.perByte)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.live)) //nolint:gosec // some thousand
	for i := range s.periods {
		p := &s.periods[i]
		b = appendInts(b, p.from, p.pulls, p.bytes)
		b = appendFloats(b, p.gone.pulls, p.gone.bytes, p.first.pulls, p.first.bytes)
		for _, histogram := range [][]amount{p.distance[:], p.age[:]} {
			for _, a := range histogram {
				b = appendFloats(b, a.pulls, a.bytes)
			}
		}
	}
	s.all(func(e *entry) {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.key))
		b = appendInts(b, e.size)
		b = binary.LittleEndian.AppendUint32(b, e.used)
		b = append(b, byte(e.kind), e.age)
		b = binary.LittleEndian.AppendUint16(b, e.distance)
	})
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

func appendInts(b []byte, all ...int64) []byte {
	for _, n := range all {
		b = binary.LittleEndian.AppendUint64(b, uint64(n)) //nolint:gosec // its bits
	}
	return b
}

func appendFloats(b []byte, all ...float64) []byte {
	for _, n := range all {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(n))
	}
	return b
}

// errForeign says that a file was not written by this version.
var errForeign = errors.New("it is no recording of this version of dcs")

// errDamaged says that a file is not as it was written.
var errDamaged = errors.New("it is damaged")

// Decode reads a file. What it returns has been checked: a Sampler can go on with it, and its ratios are between 0 and
// 1. It keeps nothing of the file.
func Decode(file []byte) (*Recording, error) {
	if len(file) < withoutAny || string(file[:len(magic)]) != magic {
		return nil, errForeign
	}
	body, sum := file[:len(file)-sumSize], file[len(file)-sumSize:]
	if checksum(body) != binary.LittleEndian.Uint32(sum) {
		return nil, errDamaged
	}
	r, d := &Recording{}, decoder{rest: body[len(magic):]}
	r.to, r.skipped, r.dropped = d.count(), d.count(), d.count()
	r.rate = rate{d.amount(), d.amount()}
	entries := int(binary.LittleEndian.Uint32(d.take(4)))
	for i := range r.periods {
		p := &r.periods[i]
		p.from, p.pulls, p.bytes = d.count(), d.count(), d.count()
		p.gone, p.first = amount{d.amount(), d.amount()}, amount{d.amount(), d.amount()}
		for _, histogram := range [][]amount{p.distance[:], p.age[:]} {
			for j := range histogram {
				histogram[j] = amount{d.amount(), d.amount()}
			}
		}
	}
	d.check(entries <= mostEntries && len(d.rest) == entries*entrySize, "%d entries", entries)
	for _, chance := range []float64{r.rate.perObject, r.rate.perByte} {
		d.check(chance > 0 && chance <= 1, "the rate %v", chance)
	}
	if d.err != nil {
		return nil, d.err
	}
	r.entries = make([]entry, entries)
	for i := range r.entries {
		r.entries[i] = d.entry(r.rate)
	}
	d.check(!repeated(r.entries), "an entry is there twice")
	return r, d.err
}

// decoder reads a body that is long enough. It keeps the first mistake.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) take(n int) (b []byte) {
	b, d.rest = d.rest[:n], d.rest[n:]
	return b
}

func (d *decoder) check(holds bool, format string, args ...any) {
	if !holds && d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{errDamaged}, args...)...)
	}
}

// count is a number that is not negative.
func (d *decoder) count() int64 {
	n := int64(binary.LittleEndian.Uint64(d.take(8))) //nolint:gosec // checked
	d.check(n >= 0, "the number %d", n)
	return n
}

// amount is a number that is not negative, and no more than what can be counted.
func (d *decoder) amount() float64 {
	n := math.Float64frombits(binary.LittleEndian.Uint64(d.take(8)))
	d.check(n >= 0 && n <= 1<<62, "the number %v", n)
	return n
}

func (d *decoder) entry(r rate) (e entry) {
	e.key, e.size = Key(binary.LittleEndian.Uint64(d.take(8))), d.count()
	e.used = binary.LittleEndian.Uint32(d.take(4))
	e.kind, e.age = kind(d.take(1)[0]), d.take(1)[0]
	e.distance = binary.LittleEndian.Uint16(d.take(2))
	d.check(e.size <= MostSize, "the size %d", e.size)
	base := e.kind &^ (offered | absent)
	d.check(base == object || base == tag, "the kind %d", e.kind)
	d.check(e.age < ageBuckets && (e.distance < distanceBuckets || e.distance == none), "an age or a distance")
	d.check(e.sampled(r), "an entry that is not in the sample")
	return e
}

// repeated says whether two entries have one key.
func repeated(entries []entry) bool {
	keys := make([]Key, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, e.key)
	}
	slices.Sort(keys)
	return len(slices.Compact(keys)) < len(entries)
}
