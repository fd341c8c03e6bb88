package serve

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content/files"
	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/registry"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// TestEachRequestIsOneEvent that says what it was about, whatever became of it.
func TestEachRequestIsOneEvent(t *testing.T) {
	o := newObserved(t, nil)
	var mu sync.Mutex // guards all: an event is published after the answer
	var all []event.Event
	st := o.s.store
	store := must(files.New(files.Options{Tree: st.Tree, Index: st.Index, Log: o.s.log, Met: tree.NewMet(st.Dir),
		Resolution: time.Minute}))
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	o.http.Config.Handler = registry.New(registry.Options{
		Content: store,
		Log:     o.s.log, Secret: st.Secret,
		Limits: registry.Limits{Manifest: 1 << 20},
		Authenticate: func(_ *http.Request, _, user, _ string) (event.Login, func() bool) {
			if user == "eve" {
				return event.UnknownUser, nil
			}
			return event.LoggedIn, nil
		},
		Publish: func(e event.Event) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, e)
		}})
	as := func(user string) string {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(user, "x")
		return r.Header.Get("Authorization")
	}
	ci := func(method, path string, body []byte, header ...string) *http.Response {
		return o.send(method, path, body, append(header, "Authorization", as("ci"))...)
	}
	taken := 0
	next := func() event.Event {
		o.await("the event", func() bool { mu.Lock(); defer mu.Unlock(); return len(all) > taken })
		mu.Lock()
		defer mu.Unlock()
		e := all[taken]
		taken = len(all)
		return e
	}
	layer, conf := randomBytes(1, 1000), []byte(`{}`)
	manifest := fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},`+
			`"layers":[{"mediaType":%q,"digest":%q,"size":1000}]}`,
		ociManifest, ociConfig, digestOf(conf), ociLayer, digestOf(layer))
	l, m, none := digestOf(layer), digestOf(manifest), digestOf([]byte("none"))
	for _, c := range []struct {
		what, method, path string
		body               []byte
		header             []string
		want               event.Event
		route              string
		status             int
	}{
		{"a layer is stored", "POST", "/v2/app/blobs/uploads/?digest=" + l, layer, nil,
			event.Event{Kind: event.Push, Digest: digest.Digest(l), Size: 1000}, "upload", 201},
		{"a config is stored", "POST", "/v2/app/blobs/uploads/?digest=" + digestOf(conf), conf, nil,
			event.Event{Kind: event.Push, Digest: digest.Digest(digestOf(conf)), Size: 2}, "upload", 201},
		{"an upload begins", "POST", "/v2/app/blobs/uploads/", nil, nil, event.Event{Kind: event.Answered}, "upload",
			202},
		{"an image is stored", "PUT", "/v2/app/manifests/v1", manifest, []string{"Content-Type", ociManifest},
			event.Event{Kind: event.Push, Tag: "v1", Digest: digest.Digest(m),
				Size: int64(len(manifest))}, "manifest", 201},
		{"a manifest that is refused", "PUT", "/v2/app/manifests/v1", []byte("{"),
			[]string{"Content-Type", ociManifest}, event.Event{Kind: event.Answered}, "manifest", 400},
		{"a tag is pulled", "GET", "/v2/app/manifests/v1", nil, nil,
			event.Event{Kind: event.Pull, Hit: true, Tag: "v1", Digest: digest.Digest(m),
				Size: int64(len(manifest))}, "manifest", 200},
		{"a digest is asked for", "HEAD", "/v2/app/manifests/" + m, nil, nil,
			event.Event{Kind: event.Pull, Hit: true, Digest: digest.Digest(m),
				Size: int64(len(manifest))}, "manifest", 200},
		{"a tag that does not exist", "GET", "/v2/app/manifests/v2", nil, nil, event.Event{Kind: event.Pull, Tag: "v2"},
			"manifest", 404},
		{"a part of a layer is pulled", "GET", "/v2/app/blobs/" + l, nil, []string{"Range", "bytes=0-9"},
			event.Event{Kind: event.Pull, Hit: true, Digest: digest.Digest(l), Size: 1000}, "blob", 206},
		{"a part that there is not", "GET", "/v2/app/blobs/" + l, nil, []string{"Range", "bytes=5000-"},
			event.Event{Kind: event.Answered}, "blob", 416},
		{"a layer that is nowhere", "GET", "/v2/app/blobs/" + none, nil, nil,
			event.Event{Kind: event.Pull, Digest: digest.Digest(none)}, "blob", 404},
		{"a layer is mounted", "POST", "/v2/fork/blobs/uploads/?from=app&mount=" + l, nil, nil,
			event.Event{Kind: event.Push, Digest: digest.Digest(l), Size: 1000}, "upload", 201},
		{"a list", "GET", "/v2/app/tags/list", nil, nil, event.Event{Kind: event.Answered}, "tags", 200},
		{"a tag is deleted", "DELETE", "/v2/app/manifests/v1", nil, nil, event.Event{Kind: event.Answered}, "manifest",
			202},
	} {
		resp := ci(c.method, c.path, c.body, c.header...)
		got := next()
		c.want.Repository = strings.Split(c.path, "/")[2]
		r := got.Request
		got.Request = event.Request{}
		says := got.Manifest
		if (says != nil) != (got.Digest == digest.Digest(m)) || says != nil && len(says.Parts) != 2 {
			t.Errorf("%s: the manifest says %+v", c.what, says)
		}
		got.Manifest = nil
		if got != c.want {
			t.Errorf("%s: %+v\nwant %+v", c.what, got, c.want)
		}
		path, _, _ := strings.Cut(c.path, "?")
		if r.Route != c.route || r.Status != c.status || resp.StatusCode != c.status || r.Method != c.method ||
			r.Path != path ||
			r.User != "ci" || r.Login != event.LoggedIn || r.Client.String() != "127.0.0.1" ||
			r.Received != int64(len(c.body)) {
			t.Errorf("%s: %+v", c.what, r)
		}
	}
	o.send("GET", "/v2/app/manifests/v1", nil, "Authorization", as("eve"))
	if e := next(); e.Kind != event.Answered || e.Request.Login != event.UnknownUser || e.Request.Tried != "eve" ||
		e.Request.User != "" || e.Request.Status != 401 {
		t.Errorf("a login that failed: %+v", e)
	}
	if taken != len(all) || len(all) != 15 {
		t.Errorf("%d events of 15 requests", len(all))
	}
}
