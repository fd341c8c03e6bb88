package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
)

// world is a store that is read.
type world struct{ *inspecttest.World }

func newWorld(t testing.TB) *world { return &world{inspecttest.New(t)} }

// listing is what dcs prints as JSON, read by somebody who takes the contract at its word.
type listing struct {
	Summary struct {
		Tags      *int64 `json:"tags"`
		Manifests *int64 `json:"manifests"`
		Blobs     *int64 `json:"blobs"`
		Bytes     *int64 `json:"bytes"`
		Day       *int64 `json:"expiring_1d_bytes"`
		Week      *int64 `json:"expiring_7d_bytes"`
		Untagged  *int64 `json:"untagged_bytes"`
	} `json:"summary"`
	Blobs  []blobJSON  `json:"blobs"`
	Images []imageJSON `json:"images"`
	Tags   []imageJSON `json:"tags"`

	Repositories []repositoryJSON `json:"repositories"`
}

type repositoryJSON struct {
	Repository  string `json:"repository"`
	Images      int64  `json:"images"`
	Size        int64  `json:"size"`
	UniqueBytes int64  `json:"unique_bytes"`
	LastAccess  string `json:"last_access"`
}

type blobJSON struct {
	Digest       digest.Digest `json:"digest"`
	Size         *int64        `json:"size"`
	Kind         string        `json:"kind"`
	CreatedAt    string        `json:"created_at"`
	LastAccess   string        `json:"last_access"`
	ExpiresAt    *string       `json:"expires_at"`
	Repositories []string      `json:"repositories"`
	Manifests    *int          `json:"manifests"`
}

type imageJSON struct {
	Repository  string        `json:"repository"`
	Tag         *string       `json:"tag"`
	Digest      digest.Digest `json:"digest"`
	MediaType   string        `json:"media_type"`
	Size        int64         `json:"size"`
	UniqueBytes int64         `json:"unique_bytes"`
	LastAccess  string        `json:"last_access"`
	ExpiresAt   *string       `json:"expires_at"`
	KeptBy      *string       `json:"kept_by"`
	Tags        *[]string     `json:"tags"` // of images
}

func (w *world) list(p index.Policy, o Options) listing {
	w.T.Helper()
	list, err := List(context.Background(), w, p, o)
	w.Must(err)
	defer func() { w.Must(list.Close()) }()
	rows, err := list.All(context.Background())
	w.Must(err)
	f, err := list.Figures(context.Background())
	w.Must(err)
	if rows == nil {
		rows = []Row{}
	}
	out, err := json.Marshal(map[string]any{"summary": f, string(list.Kind): rows})
	w.Must(err)
	var l listing
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		w.T.Fatalf("%v in\n%s", err, out)
	}
	if dec.More() {
		w.T.Fatalf("more than one object:\n%s", out)
	}
	return l
}
