package inspect

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// The text of a row has its fields between bytes that none of them has. Only a media type may have any byte: it is the
// last field.
const separator = "\n"

// pack writes the fields in the order in which unpack reads them.
func (b Blob) pack() string {
	return strings.Join([]string{string(b.Digest), decimal(b.Size), b.Kind, millis(b.CreatedAt), millis(b.LastAccess),
		millis(b.ExpiresAt), strings.Join(b.Repositories, " "), strconv.Itoa(b.Manifests)}, separator)
}

// pack also notes whether the row is an image or a tag: an image without tags is not a tag.
func (i Image) pack() string {
	tags := "" // of a tag
	if i.Tags != nil {
		tags = "all"
	}
	return strings.Join([]string{i.Repository, i.Tag, string(i.Digest), decimal(i.Size), decimal(i.UniqueBytes),
		millis(i.LastAccess), millis(i.ExpiresAt), millis(i.CreatedAt), i.KeptBy, tags, i.MediaType}, separator)
}

// pack writes the fields in the order in which unpack reads them.
func (r Repository) pack() string {
	return strings.Join([]string{r.Repository, decimal(r.Images), decimal(r.Size), decimal(r.UniqueBytes),
		millis(r.LastAccess)}, separator)
}

// unpack makes a row of its text. An error means that the temporary file does not say what was written to it, since no
// other process knows its name.
func unpack(kind Kind, text string) (Row, error) {
	var f fields
	var row Row
	switch kind {
	case Blobs:
		f.rest = strings.SplitN(text, separator, 8)
		row = Blob{Digest: digest.Digest(f.next()), Size: f.number(), Kind: f.next(), CreatedAt: f.time(),
			LastAccess: f.time(), ExpiresAt: f.time(), Repositories: splitNames(f.next()), Manifests: int(f.number())}
	case Repositories:
		f.rest = strings.SplitN(text, separator, 5)
		row = Repository{Repository: f.next(), Images: f.number(), Size: f.number(), UniqueBytes: f.number(),
			LastAccess: f.time()}
	default:
		f.rest = strings.SplitN(text, separator, 11)
		i := Image{Repository: f.next(), Tag: f.next(), Digest: digest.Digest(f.next()), Size: f.number(),
			UniqueBytes: f.number(), LastAccess: f.time(), ExpiresAt: f.time(), CreatedAt: f.time(), KeptBy: f.next()}
		if f.next() != "" {
			i.Tags = splitNames(i.Tag)
		}
		i.MediaType = f.next()
		row = i
	}
	return row, f.err
}

// names splits a list that was joined by blanks. No name is an empty list.
func splitNames(joined string) []string {
	if joined == "" {
		return []string{}
	}
	return strings.Split(joined, " ")
}

// fields reads the fields of a text. err is the first error.
type fields struct {
	rest []string
	err  error
}

// next returns the next field. After an error it is empty, and the error stays.
func (f *fields) next() string {
	if len(f.rest) == 0 {
		f.err = fmt.Errorf("a row was cut off in the temporary file")
		return ""
	}
	field := f.rest[0]
	f.rest = f.rest[1:]
	return field
}

// number reads a whole number.
func (f *fields) number() int64 {
	n, err := strconv.ParseInt(f.next(), 10, 64)
	if err != nil && f.err == nil {
		f.err = err
	}
	return n
}

// time reads what millis wrote.
func (f *fields) time() stamp.Time {
	field := f.next()
	if field == "" {
		return stamp.Time{}
	}
	ms, err := strconv.ParseInt(field, 10, 64)
	if err != nil && f.err == nil {
		f.err = err
	}
	return stampOf(ms)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// millis is a time in milliseconds since 1970; empty: never.
func millis(t stamp.Time) string {
	if time.Time(t).IsZero() {
		return ""
	}
	return decimal(time.Time(t).UnixMilli())
}
