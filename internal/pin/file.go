// Package pin keeps the file of pins, which outlives the index.
//
// Its law: a file that cannot be read, or not understood as a whole, is an error and never a file without pins. A
// missing file has none.
package pin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// FileError says that the file of pins cannot be read, or is none.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string {
	return fmt.Sprintf("the pins cannot be read: %s: %v", e.Path, e.Err)
}

// Unwrap is for errors.As.
func (e *FileError) Unwrap() error { return e.Err }

// Remedy is what an operator can do about a FileError.
const Remedy = `mend the file, or put a copy of it back; without any pin it is {"pins":[]}`

// file is what is written.
type file struct {
	Pins []entry `json:"pins"`
}

// entry is a pin in the file. It has either a tag or a digest.
type entry struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	MadeAt     time.Time     `json:"made_at"`
	Until      time.Time     `json:"until,omitzero"`
	Note       string        `json:"note,omitempty"`
}

// Read returns the pins of a file in the order of Sort. there: there is one. *FileError.
func Read(path string) (ps []index.Pin, there bool, err error) {
	data, err := disk.ReadFile(path)
	if _, none := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && errors.Is(none, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err == nil {
		ps, err = parse(data)
	}
	if err != nil {
		return nil, true, &FileError{path, err}
	}
	return ps, true, nil
}

// parse takes all of the text or nothing: what this version does not know may keep something, too.
func parse(data []byte) ([]index.Pin, error) {
	var f file
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more behind the pins")
	}
	if err := checkNames(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return nil, err
	}
	if f.Pins == nil {
		return nil, errors.New("it has no list of pins")
	}
	var ps []index.Pin
	known := map[layout.Key]bool{}
	for i, e := range f.Pins {
		p, err := e.pin()
		if err == nil && known[p.Key] {
			err = fmt.Errorf("%s is pinned twice", p.Name())
		}
		if err != nil {
			return nil, fmt.Errorf("pin %d: %w", i+1, err)
		}
		known[p.Key] = true
		ps = append(ps, p)
	}
	Sort(ps)
	return ps, nil
}

// checkNames refuses an object that has a name twice, in any letter case: only the last of the two would be read.
func checkNames(d *json.Decoder) error {
	t, err := d.Token()
	if err != nil || t != json.Delim('{') && t != json.Delim('[') {
		return err
	}
	var names []string
	for d.More() {
		if t == json.Delim('{') {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
				return fmt.Errorf("one object has %q twice", name)
			}
			names = append(names, name)
		}
		if err := checkNames(d); err != nil {
			return err
		}
	}
	_, err = d.Token() // the end
	return err
}

func (e entry) pin() (index.Pin, error) {
	p := index.Pin{Key: layout.TagKey(e.Repository, e.Tag), Made: e.MadeAt, Until: e.Until, Note: e.Note}
	switch {
	case !layout.ValidName(e.Repository):
		return p, fmt.Errorf("%q is no name of a repository", e.Repository)
	case (e.Tag == "") == (e.Digest == ""):
		return p, errors.New("it needs a tag or a digest, and not both")
	case e.Tag != "" && !layout.ValidTag(e.Tag):
		return p, fmt.Errorf("%q is no tag", e.Tag)
	case e.MadeAt.IsZero():
		return p, errors.New("it does not say when it was made")
	case e.Tag != "":
		return p, nil
	}
	p.Key = layout.ManifestKey(e.Repository, e.Digest)
	return p, e.Digest.Validate()
}

// Write replaces the file, durably. A file that is replaced keeps its owner and mode; a new one is for the owner of its
// directory alone.
func Write(path string, ps []index.Pin) error {
	f := file{Pins: []entry{}}
	for _, p := range ps {
		f.Pins = append(f.Pins, entry{p.Key.Repository, p.Key.Tag, p.Key.Digest, p.Made, p.Until, p.Note})
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFile(path, append(data, '\n'), 0o600)
}

// Sort orders pins by repository, tag and digest.
func Sort(ps []index.Pin) {
	slices.SortFunc(ps, func(a, b index.Pin) int {
		return cmp.Or(cmp.Compare(a.Key.Repository, b.Key.Repository), cmp.Compare(a.Key.Tag, b.Key.Tag),
			cmp.Compare(a.Key.Digest, b.Key.Digest))
	})
}
