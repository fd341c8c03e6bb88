package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// object is a place in a manifest: which members of an object readers take references from, and what is
// below them. A list is its elements.
type object map[string]object

var (
	descriptorObject = object{"mediaType": nil, "digest": nil, "size": nil, "urls": nil}
	manifestObject   = object{
		"schemaVersion": nil, "mediaType": nil, "artifactType": nil,
		"config": descriptorObject, "layers": descriptorObject,
		"blobs": descriptorObject, "manifests": descriptorObject,
		"subject": descriptorObject, "fsLayers": object{"blobSum": nil},
	}
)

// member is the member that readers which ignore letter case take a name for, as encoding/json does: ſ is an
// s to it, and the Kelvin sign a k.
func (o object) member(name string) (string, bool) {
	for m := range o {
		if strings.EqualFold(m, name) {
			return m, true
		}
	}
	return "", false
}

// CheckUnambiguous refuses JSON in which a name stands twice in one object, or in which a member that
// references are read from is there once more in other letter case. Readers differ in which of the two
// counts, and each must see the references that we saw. Other members may differ in letter case only, such
// as the keys of annotations.
func CheckUnambiguous(data []byte) error {
	if !json.Valid(data) { // which is not too deep either
		return errors.New("manifest is not JSON")
	}
	return unambiguous{json.NewDecoder(bytes.NewReader(data))}.value(manifestObject)
}

type unambiguous struct{ *json.Decoder }

func (c unambiguous) token() (json.Token, error) {
	t, err := c.Token()
	if err != nil {
		return nil, fmt.Errorf("manifest is not JSON: %w", err)
	}
	return t, nil
}

// value reads one value.
func (c unambiguous) value(o object) error {
	t, err := c.token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		err = c.members(o)
	case json.Delim('['):
		for err == nil && c.More() {
			err = c.value(o)
		}
	default:
		return nil
	}
	if err == nil {
		_, err = c.token() // the end
	}
	return err
}

func (c unambiguous) members(o object) error {
	seen := map[string]bool{}
	for c.More() {
		t, err := c.token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // before a value the decoder gives strings only
		member, read := o.member(name)
		if !read {
			member = name
		}
		if seen[member] {
			return fmt.Errorf("manifest has the name %q twice in one object", name)
		}
		seen[member] = true
		if err := c.value(o[member]); err != nil {
			return err
		}
	}
	return nil
}
