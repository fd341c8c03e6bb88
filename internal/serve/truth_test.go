package serve

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// What dcs says to be there can be pulled, whoever brought it to the disk, and whatever became of it there.

// copyFrom copies the tree of another store into this one beside its server, as rsync does: the names last.
func (w *world) copyFrom(from *world) {
	w.Helper()
	from.flush()
	for _, part := range []string{"blobs", "repositories"} {
		root := filepath.Join("docker", "registry", "v2", part)
		err := filepath.WalkDir(filepath.Join(from.dir, root), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			to := filepath.Join(w.dir, strings.TrimPrefix(path, from.dir))
			if e.IsDir() {
				return os.MkdirAll(to, 0o755)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(to, data, 0o644)
		})
		if err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) file(p layout.Path) string {
	w.flush()
	return tree.Dir(w.dir).File(p)
}

func (w *world) blobFile(d string) string {
	return w.file(layout.Path{Kind: layout.BlobData, Digest: digest.Digest(d)})
}

// write writes a file of the tree behind the server's back.
func (w *world) write(p layout.Path, data string) {
	w.Helper()
	file := w.file(p)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
		w.Fatal(err)
	}
}

func (w *world) remove(p layout.Path) {
	w.Helper()
	if err := os.Remove(w.file(p)); err != nil {
		w.Fatal(err)
	}
}

// imageOf pushes an image of layers with these contents, and returns its digest and its bytes.
func (w *world) imageOf(repo, reference string, layers ...string) (d string, body []byte) {
	w.Helper()
	config := fmt.Sprintf(`{"of":%q}`, layers)
	m := map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"config": descriptor(ociConfig, w.upload(repo, []byte(config)), len(config))}
	var list []any
	for _, l := range layers {
		list = append(list, descriptor(ociLayer, w.upload(repo, []byte(l)), len(l)))
	}
	m["layers"] = list
	d = w.put(repo, reference, m)
	return d, w.read(w.want(200, "GET", "/v2/"+repo+"/manifests/"+d, nil, ""))
}

// TestAnImageThatWasCopiedInLivesWhenOthersWithItsLayersGo copies images beside a running server, that has
// another image of the same layers.
func TestAnImageThatWasCopiedInLivesWhenOthersWithItsLayersGo(t *testing.T) {
	const base = "the layer of both"
	for what, story := range map[string]struct {
		brings func(w *world) // what the other store has
		use    func(w *world) // asks for as little of it as a client may
		pull   string         // what has to stay
	}{
		"an image by its tag": {
			func(w *world) { w.imageOf("team/app", "v1", base, "own") },
			func(w *world) { w.want(200, "GET", "/v2/team/app/manifests/v1", nil, "") }, "team/app:v1"},
		"an image by a HEAD of its tag": {
			func(w *world) { w.imageOf("team/app", "v1", base, "own") },
			func(w *world) { w.want(200, "HEAD", "/v2/team/app/manifests/v1", nil, "") }, "team/app:v1"},
		"the platforms of an index that nobody asked for": {
			func(w *world) { w.indexOf("team/app", "v1", base) },
			func(w *world) { w.want(200, "HEAD", "/v2/team/app/manifests/v1", nil, "") }, "team/app:v1"},
		"an index of indexes": {
			func(w *world) {
				d, size := w.indexOf("team/app", "", base)
				w.put("team/app", "v1", map[string]any{"schemaVersion": 2, "mediaType": ociIndex,
					"manifests": []any{descriptor(ociIndex, d, size)}})
			},
			func(w *world) { w.want(200, "HEAD", "/v2/team/app/manifests/v1", nil, "") }, "team/app:v1"},
		"BuildKit's cache": {
			func(w *world) {
				w.put("team/app", "v1", map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{
					descriptor(ociLayer, w.upload("team/app", []byte(base)), len(base)),
					descriptor("application/vnd.buildkit.cacheconfig.v0", w.upload("team/app", []byte("{}")), 2)}})
			},
			func(w *world) { w.want(200, "HEAD", "/v2/team/app/manifests/v1", nil, "") }, "team/app:v1"},
		"an image that an index names which is pushed here": {
			func(w *world) { w.imageOf("team/app", "part", base, "own") },
			func(w *world) {
				if w.do("HEAD", "/v2/team/app/manifests/v1", nil, "").StatusCode == 200 {
					return
				}
				part := w.file(layout.Path{Kind: layout.TagLink, Repository: "team/app", Tag: "part"})
				d, err := os.ReadFile(part)
				if err != nil {
					w.Fatal(err)
				}
				size := int(must(os.Stat(w.blobFile(string(d)))).Size())
				w.put("team/app", "v1", map[string]any{"schemaVersion": 2, "mediaType": ociIndex,
					"manifests": []any{descriptor(ociManifest, string(d), size)}})
			}, "team/app:v1"},
		"a layer that an image names which is pushed here": {
			func(w *world) { w.upload("team/app", []byte(base)) },
			func(w *world) {
				if w.do("HEAD", "/v2/team/app/manifests/v1", nil, "").StatusCode == 200 {
					return
				}
				config := w.upload("team/app", []byte("{}"))
				w.put("team/app", "v1", map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
					"config": descriptor(ociConfig, config, 2),
					"layers": []any{descriptor(ociLayer, digestOf([]byte(base)), len(base))}})
			}, "team/app:v1"},
	} {
		for how, goes := range map[string]func(w *world, other string){
			"expires":    func(*world, string) {},
			"is deleted": func(w *world, other string) { w.want(202, "DELETE", "/v2/other/manifests/"+other, nil, "") },
		} {
			t.Run(what+", and the other "+how, func(t *testing.T) {
				w, from := newWorld(t), newWorld(t)
				other, _ := w.imageOf("other", "v1", base)
				story.brings(from)
				w.copyFrom(from)
				story.use(w)
				goes(w, other)
				w.keepUsing(3, func() { story.use(w) })
				w.gone("other:v1")
				w.pull(story.pull)
				if n, err := w.s.Stats(); err != nil || int(n.Blobs) != w.countBlobs() {
					t.Errorf("the index knows %+v, %v; the disk has %d blobs", n, err, w.countBlobs())
				}
				w.pass(ttl + 2*time.Minute)
				w.expire()
				w.gone(story.pull)
			})
		}
	}
}

// TestWhatWasCopiedInIsListedAfterARepair runs the command of docs/operations.md beside the server.
func TestWhatWasCopiedInIsListedAfterARepair(t *testing.T) {
	w, from := newWorld(t), newWorld(t)
	w.imageOf("other", "v1", "the layer of both")
	d, _ := from.imageOf("team/app", "v1", "the layer of both", "own")
	from.indexOf("team/app", "all", "the layer of both")
	sbom := from.artifact("team/app", "", "application/sbom", d)
	w.copyFrom(from)
	w.want(404, "GET", "/v2/team/app/tags/list", nil, "")
	done, err := fsck.Repair(t.Context(), &w.s.store.Store, fsck.RepairOptions{})
	for _, r := range done {
		if r.Problem != fsck.Orphan || !r.Mended {
			t.Errorf("the repair does %+v", r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"team/app/tags/list": `["all","v1"]`,
		"_catalog": `["other","team/app"]`} {
		if list := w.read(w.want(200, "GET", "/v2/"+path, nil, "")); !strings.Contains(string(list), want) {
			t.Errorf("%s is %s, want %s", path, list, want)
		}
	}
	if got, _ := w.referrers("team/app", d, ""); !slices.Equal(got, []string{sbom}) {
		t.Errorf("the referrers are %v, want %s", got, sbom)
	}
	w.keepUsing(3, func() { w.head("team/app:v1"); w.head("team/app:all") })
	w.gone("other:v1")
	w.pull("team/app:v1")
	w.pull("team/app:all")
	w.pull("team/app@" + sbom)
	w.clean()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// countBlobs counts the files of blobs.
func (w *world) countBlobs() (n int) {
	for _, f := range w.files() {
		if filepath.Base(f) == "data" && strings.Contains(f, "/blobs/") {
			n++
		}
	}
	return n
}

// indexOf pushes an index of two images that share a layer, and returns its digest and size.
func (w *world) indexOf(repo, reference, base string) (d string, size int) {
	w.Helper()
	var list []any
	for _, own := range []string{"amd64", "arm64"} {
		d, body := w.imageOf(repo, "", base, own)
		list = append(list, descriptor(ociManifest, d, len(body)))
	}
	d = w.put(repo, reference, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": list})
	return d, int(must(os.Stat(w.blobFile(d))).Size())
}

// damages are what a power loss, or a bad copy, makes of a file whose name is sure and whose bytes are not.
var damages = map[string]func(data string) string{
	"empty": func(string) string { return "" },
	"short": func(data string) string { return data[:len(data)/2] },
	"long":  func(data string) string { return data + data },
}

// TestADamagedBlobIsNotThereAndAPushMendsIt: who is told that a blob is there does not send it.
func TestADamagedBlobIsNotThereAndAPushMendsIt(t *testing.T) {
	const layer = "a layer of some bytes"
	for what, damage := range damages {
		for when, story := range map[string]func(w *world, file string, bad []byte){
			"in a tree that a server finds": func(w *world, file string, bad []byte) {
				w.stop()
				if err := os.RemoveAll(filepath.Join(w.dir, ".metadata")); err != nil {
					w.Fatal(err)
				}
				if err := os.WriteFile(file, bad, 0o644); err != nil {
					w.Fatal(err)
				}
				w.start()
			},
			"while the server was off": func(w *world, file string, bad []byte) {
				w.stop()
				if err := os.WriteFile(file, bad, 0o644); err != nil {
					w.Fatal(err)
				}
				w.start()
			},
			"beside the server": func(w *world, file string, bad []byte) {
				if err := os.WriteFile(file, bad, 0o644); err != nil {
					w.Fatal(err)
				}
			},
		} {
			t.Run(what+", "+when, func(t *testing.T) {
				w := newWorld(t)
				_, body := w.imageOf("app", "v1", layer)
				d := digestOf([]byte(layer))
				size := w.totals().Bytes
				story(w, w.blobFile(d), []byte(damage(layer)))
				for range 2 {
					w.want(404, "HEAD", "/v2/app/blobs/"+d, nil, "")
					w.want(404, "GET", "/v2/app/blobs/"+d, nil, "")
					if t := w.totals(); t.Bytes != size-int64(len(layer)) || t.Blobs != 2 {
						w.Errorf("the index counts %+v; %d bytes are whole", t, size-int64(len(layer)))
					}
				}
				w.want(202, "POST", "/v2/b/blobs/uploads/?mount="+d+"&from=app", nil, "")
				w.want(202, "POST", "/v2/b/blobs/uploads/?mount="+d, nil, "")
				if errs := errorsOf(t, w.want(400, "PUT", "/v2/app/manifests/v2", body,
					ociManifest)); errs[0].Code != "MANIFEST_BLOB_UNKNOWN" {
					t.Errorf("a manifest of a damaged layer is refused with %+v", errs)
				}
				if found := w.flaws(); !slices.Contains(found, "wrong digest "+d) {
					t.Errorf("a check finds %q", found)
				}
				w.upload("app", []byte(layer))
				w.want(200, "HEAD", "/v2/app/blobs/"+d, nil, "")
				w.pull("app:v1")
				if got := w.totals(); got.Bytes != size {
					t.Errorf("the index counts %d bytes, and %d are there", got.Bytes, size)
				}
				w.clean()
				w.restart()
				w.pull("app:v1")
			})
		}
	}
}

// flaws is what a check finds that reads no blob which looks whole.
func (w *world) flaws() (found []string) {
	w.Helper()
	w.flush()
	for _, p := range w.problems(false) {
		found = append(found, string(p.Flaw)+" "+p.Object())
	}
	return found
}

// TestADamagedBlobOfWhichOnlyAManifestKnowsTheSize: nobody asked for the layer before its manifest is pushed.
func TestADamagedBlobOfWhichOnlyAManifestKnowsTheSize(t *testing.T) {
	const layer = "a layer of some bytes"
	d, half := digestOf([]byte(layer)), layer[:9]
	w := newWorld(t)
	w.stop()
	w.write(layout.Path{Kind: layout.BlobData, Digest: digest.Digest(d)}, half)
	w.write(layout.Path{Kind: layout.LayerLink, Repository: "app", Digest: digest.Digest(d)}, d)
	w.start()
	w.want(200, "HEAD", "/v2/app/blobs/"+d, nil, "") // nobody can know
	config := w.upload("app", []byte("{}"))
	body := must(json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"config": descriptor(ociConfig, config, 2),
		"layers": []any{descriptor(ociLayer, d, len(layer))}}))
	w.want(400, "PUT", "/v2/app/manifests/v1", body, ociManifest)
	w.want(404, "HEAD", "/v2/app/blobs/"+d, nil, "")
	w.upload("app", []byte(layer))
	w.want(201, "PUT", "/v2/app/manifests/v1", body, ociManifest)
	w.pull("app:v1")
	w.clean()
}

func TestADamagedManifestIsNotThereAndAPushMendsIt(t *testing.T) {
	for what, damage := range damages {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			d, body := w.imageOf("app", "v1", "layer")
			if err := os.WriteFile(w.blobFile(d), []byte(damage(string(body))), 0o644); err != nil {
				t.Fatal(err)
			}
			w.want(404, "HEAD", "/v2/app/manifests/v1", nil, "")
			w.want(404, "GET", "/v2/app/manifests/"+d, nil, "")
			idx := must(json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociIndex,
				"manifests": []any{descriptor(ociManifest, d, len(body))}}))
			if errs := errorsOf(t, w.want(400, "PUT", "/v2/app/manifests/all", idx,
				ociIndex)); errs[0].Code != "MANIFEST_BLOB_UNKNOWN" {
				t.Errorf("an index of a damaged image is refused with %+v", errs)
			}
			w.want(201, "PUT", "/v2/app/manifests/v1", body, ociManifest)
			w.want(201, "PUT", "/v2/app/manifests/all", idx, ociIndex)
			w.pull("app:all")
			w.clean()
		})
	}
}

// TestALinkWithoutItsBlobIsNothing: a stock registry's clean-up removes blobs and leaves their links.
func TestALinkWithoutItsBlobIsNothing(t *testing.T) {
	w := newWorld(t)
	child, body := w.imageOf("app", "v1", "layer")
	idx := must(json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociIndex,
		"manifests": []any{descriptor(ociManifest, child, len(body))}}))
	w.stop()
	w.remove(layout.Path{Kind: layout.BlobData, Digest: digest.FromString("layer")})
	w.start()
	refused := func(reference string, body []byte, mediaType, missing string) {
		t.Helper()
		errs := errorsOf(t, w.want(400, "PUT", "/v2/app/manifests/"+reference, body, mediaType))
		if errs[0].Code != "MANIFEST_BLOB_UNKNOWN" || !strings.Contains(string(errs[0].Detail), missing) {
			t.Errorf("refused with %+v, want MANIFEST_BLOB_UNKNOWN of %s", errs, missing)
		}
	}
	refused("v2", body, ociManifest, digestOf([]byte("layer")))
	w.upload("app", []byte("layer"))
	w.stop()
	w.remove(layout.Path{Kind: layout.BlobData, Digest: digest.Digest(child)})
	w.start()
	refused("all", idx, ociIndex, child)
	w.want(201, "PUT", "/v2/app/manifests/v2", body, ociManifest)
	w.want(201, "PUT", "/v2/app/manifests/all", idx, ociIndex)
	w.pull("app:all")
	w.clean()
}

// TestAPartMustBeThereAsWhatItIsNamed: clients ask for it as that.
func TestAPartMustBeThereAsWhatItIsNamed(t *testing.T) {
	const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	w := newWorld(t)
	m, body := w.imageOf("app", "v1", "layer")
	asBlob := w.upload("app", []byte(`{"schemaVersion":2,"mediaType":"`+ociManifest+`","layers":[]}`))
	blobSize := int(must(os.Stat(w.blobFile(asBlob))).Size())
	config, layer := descriptor(ociConfig, w.upload("app", []byte("{}")), 2), descriptor(ociLayer,
		w.upload("app", []byte("layer")), 5)
	elsewhere := func(mediaType, content string) map[string]any {
		d := descriptor(mediaType, digestOf([]byte(content)), len(content))
		d["urls"] = []string{"https://example.com/" + content}
		return d
	}
	image := func(config any, layers ...any) map[string]any {
		return map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": layers}
	}
	list := func(children ...any) map[string]any {
		return map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": children}
	}
	for what, tt := range map[string]struct {
		m      map[string]any
		status int
	}{
		"an index of a blob that it calls a manifest":     {list(descriptor(ociManifest, asBlob, blobSize)), 400},
		"an index of a blob that it calls an index":       {list(descriptor(ociIndex, asBlob, blobSize)), 400},
		"an index of a manifest that it calls a layer":    {list(descriptor(ociLayer, m, len(body))), 400},
		"an image of a manifest that it calls a layer":    {image(config, descriptor(ociLayer, m, len(body))), 400},
		"an image of a manifest that it calls its config": {image(descriptor(ociConfig, m, len(body)), layer), 400},
		"a layer both foreign and plain": {image(config, elsewhere(foreign, "absent"),
			descriptor(ociLayer, digestOf([]byte("absent")), 6)), 400},
		"a layer both plain and foreign": {image(config,
			descriptor(ociLayer, digestOf([]byte("absent")), 6), elsewhere(foreign, "absent")), 400},
		"a foreign config": {image(elsewhere(foreign, "absent"), layer), 400},
		"a config that is a foreign layer, too": {image(elsewhere(foreign, "absent"),
			elsewhere(foreign, "absent")), 400},
		"an index of a manifest":                        {list(descriptor(ociManifest, m, len(body))), 201},
		"an index of a manifest and a layer of its own": {list(descriptor(ociManifest, m, len(body)), layer), 201},
		"BuildKit's cache": {list(layer, layer,
			descriptor("application/vnd.buildkit.cacheconfig.v0", config["digest"].(string), 2)), 201},
		"a foreign layer": {image(config, elsewhere(foreign, "absent"),
			elsewhere(foreign, "absent"), layer), 201},
		"a foreign layer that is there as a plain one, too": {image(config, elsewhere(foreign, "layer"), layer), 201},
	} {
		t.Run(what, func(t *testing.T) {
			data := must(json.Marshal(tt.m))
			resp := w.do("PUT", "/v2/app/manifests/x", data, tt.m["mediaType"].(string))
			if resp.StatusCode != tt.status {
				t.Fatalf("%d %s; want %d", resp.StatusCode, w.read(resp), tt.status)
			}
			if tt.status == 400 {
				if errs := errorsOf(t, resp); errs[0].Code != "MANIFEST_BLOB_UNKNOWN" {
					t.Errorf("refused with %+v", errs)
				}
			}
		})
	}
}

func TestASizeThatIsNotTheBlobsIsRefused(t *testing.T) {
	w := newWorld(t)
	child, body := w.imageOf("app", "v1", "layer")
	config, layer := w.upload("app", []byte("{}")), w.upload("app", []byte("layer"))
	withSize := func(size string) string {
		return fmt.Sprintf(
			`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},`+
				`"layers":[{"mediaType":%q,"digest":%q%s}]}`,
			ociManifest, ociConfig, config, ociLayer, layer, size)
	}
	for size, want := range map[string]int{`,"size":5`: 201, ``: 201, `,"size":4`: 400, `,"size":0`: 400,
		`,"size":-1`: 400, `,"size":500000000000`: 400} {
		resp := w.do("PUT", "/v2/app/manifests/v2", []byte(withSize(size)), ociManifest)
		if resp.StatusCode != want {
			t.Errorf("a layer of 5 bytes with %q: %d %s; want %d", size, resp.StatusCode, w.read(resp), want)
			continue
		}
		if want == 400 {
			errs := errorsOf(t, resp)
			if errs[0].Code != "SIZE_INVALID" || !strings.Contains(errs[0].Message, layer) ||
				!strings.Contains(errs[0].Message, "5 bytes") {
				t.Errorf("refused with %+v", errs)
			}
		}
	}
	for size, want := range map[int]int{len(body): 201, len(body) + 1: 400} {
		idx := must(json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociIndex,
			"manifests": []any{descriptor(ociManifest, child, size)}}))
		w.want(want, "PUT", "/v2/app/manifests/all", idx, ociIndex)
	}
	// a subject may be absent
	w.artifact("app", "", "application/sbom", digestOf([]byte("a subject of one byte, they say")))
	w.pull("app:v2")
	w.clean()
}

// TestAStockTreesWrongSizesStayServable: a stock registry takes any size.
func TestAStockTreesWrongSizesStayServable(t *testing.T) {
	const layer = "a layer of some bytes"
	for what, with := range map[string]func(w *world, write func()){
		"found at a start":          func(w *world, write func()) { w.stop(); write(); w.start() },
		"copied in beside a server": func(_ *world, write func()) { write() },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			ld, cd := digest.FromString(layer), digest.FromString("{}")
			body := string(must(json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
				"config": descriptor(ociConfig, cd.String(), 2),
				"layers": []any{descriptor(ociLayer, ld.String(), len(layer)*2)}})))
			m := digest.FromString(body)
			with(w, func() {
				for _, content := range []string{layer, "{}", body} {
					w.write(layout.Path{Kind: layout.BlobData, Digest: digest.FromString(content)}, content)
				}
				for _, d := range []digest.Digest{ld, cd} {
					w.write(layout.Path{Kind: layout.LayerLink, Repository: "app", Digest: d}, d.String())
				}
				w.write(layout.Path{Kind: layout.RevisionLink, Repository: "app", Digest: m}, m.String())
				w.write(layout.Path{Kind: layout.TagLink, Repository: "app", Tag: "v1"}, m.String())
			})
			w.pull("app:v1")
			w.pull("app:v1")
			w.want(201, "POST", "/v2/b/blobs/uploads/?mount="+ld.String()+"&from=app", nil, "")
			if got, want := w.totals().Bytes, int64(len(layer)+2+len(body)); got != want {
				t.Errorf("the index counts %d bytes, want %d", got, want)
			}
			if found := w.flaws(); !slices.Equal(found, []string{"wrong size app@" + m.String()}) {
				t.Errorf("a check finds %q", found)
			}
			if done, err := fsck.Repair(t.Context(), &w.s.store.Store, fsck.RepairOptions{}); err != nil ||
				len(done) != 1 || done[0].Mended {
				t.Errorf("a repair does %+v, %v; want nothing", done, err)
			}
			w.restart()
			w.pull("app:v1")
		})
	}
}

// TestANameThatIsReadInTwoWaysIsRefusedWhereItMatters pushes what readers would understand differently.
func TestANameThatIsReadInTwoWaysIsRefusedWhereItMatters(t *testing.T) {
	w := newWorld(t)
	w.imageOf("app", "v1", "layer")
	config, layer := w.upload("app", []byte("{}")), w.upload("app", []byte("layer"))
	head := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},`+
		`"layers":[{"mediaType":%q,"digest":%q,"size":5}]`,
		ociManifest, ociConfig, config, ociLayer, layer)
	for more, want := range map[string]int{
		`,"layer` + "\u017f" + `":[]}`: 400,
		`,"layer\u017f":[]}`:           400,
		`,"Layers":[]}`:                400,
		`,"annotations":{"team":"a","Team":"b","teaſm":"c"}}`:           201,
		`,"annotations":{"layers":"a","Layers":"b","digest":"c"}}`:      201,
		`,"annotations":{"` + "\u212A" + `":"kelvin","k":"a","K":"b"}}`: 201,
	} {
		if resp := w.do("PUT", "/v2/app/manifests/v2", []byte(head+more), ociManifest); resp.StatusCode != want {
			t.Errorf("%s: %d %s; want %d", more, resp.StatusCode, w.read(resp), want)
		}
	}
}

// TestAManifestsTypeIsItsOwnWhereAClientSaysNone: curl calls what it sends a form.
func TestAManifestsTypeIsItsOwnWhereAClientSaysNone(t *testing.T) {
	w := newWorld(t)
	child, body := w.imageOf("app", "v1", "layer")
	config := w.upload("app", []byte("{}"))
	const docker = "application/vnd.docker.distribution.manifest.v2+json"
	manifests := map[string]string{
		ociManifest: fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[]}`,
			ociConfig, config),
		ociIndex: fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			ociManifest, child, len(body)),
		docker: fmt.Sprintf(
			`{"schemaVersion":2,"mediaType":%q,`+
				`"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":%q,"size":2},`+
				`"layers":[]}`,
			docker, config),
	}
	for want, data := range manifests {
		for _, said := range []string{"", "application/x-www-form-urlencoded",
			"Application/X-WWW-Form-Urlencoded; charset=utf-8"} {
			w.want(201, "PUT", "/v2/app/manifests/v2", []byte(data), said)
			if got := w.want(200, "GET", "/v2/app/manifests/v2", nil, "").Header.Get("Content-Type"); got != want {
				t.Errorf("%q as %q is %q", data, said, got)
			}
		}
		for _, wrong := range []string{"application/json", "text/html", "application/octet-stream"} {
			errs := errorsOf(t, w.want(400, "PUT", "/v2/app/manifests/v3", []byte(data), wrong))
			if errs[0].Code != "MANIFEST_INVALID" || !strings.Contains(string(errs[0].Detail), wrong) ||
				!strings.Contains(string(errs[0].Detail), want) {
				t.Errorf("as %q it is refused with %+v %s", wrong, errs[0], errs[0].Detail)
			}
		}
	}
	w.want(400, "PUT", "/v2/app/manifests/v3", []byte(manifests[ociIndex]), ociManifest)
	w.want(400, "PUT", "/v2/app/manifests/v3", []byte(`{"schemaVersion":2}`), "")
}

// TestTheIndexLearnsFromAMiss: what somebody removed by hand counts no longer once somebody asked for it.
func TestTheIndexLearnsFromAMiss(t *testing.T) {
	const layer = "a layer of some bytes"
	for _, later := range []time.Duration{0, 2 * time.Minute} { // a lease is in memory, or has to be written
		w := newWorld(t)
		d, body := w.imageOf("app", "v1", layer)
		ld := digestOf([]byte(layer))
		start := w.totals()
		missing := func(what string, p layout.Path, path string, want func() bool) {
			t.Helper()
			w.pass(later)
			file := w.file(p)
			data := must(os.ReadFile(file))
			w.remove(p)
			w.want(404, "HEAD", path, nil, "")
			if !want() {
				t.Errorf("%s went %s after its use, and the index counts %+v; before: %+v", what, later, w.totals(),
					start)
			}
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
			w.want(200, "HEAD", path, nil, "")
			if w.totals() != start {
				t.Errorf("%s came back, and the index counts %+v; before: %+v", what, w.totals(), start)
			}
		}
		missing("a blob", layout.Path{Kind: layout.BlobData, Digest: digest.Digest(ld)}, "/v2/app/blobs/"+ld,
			func() bool {
				return w.totals().Bytes == start.Bytes-int64(len(layer)) && w.totals().Blobs == start.Blobs-1
			})
		missing("a manifest's blob", layout.Path{Kind: layout.BlobData, Digest: digest.Digest(d)},
			"/v2/app/manifests/"+d,
			func() bool { return w.totals().Bytes == start.Bytes-int64(len(body)) && w.totals().Manifests == 0 })
		missing("a manifest's link", layout.Path{Kind: layout.RevisionLink, Repository: "app",
			Digest: digest.Digest(d)}, "/v2/app/manifests/v1",
			func() bool { return w.totals().Manifests == 0 })
		missing("a tag", layout.Path{Kind: layout.TagLink, Repository: "app", Tag: "v1"}, "/v2/app/manifests/v1",
			func() bool { return w.totals().Tags == 0 })
		w.clean()
	}
}

// TestALayerIsWhatItsNameSaysWhateverItsLinkHolds: a power loss leaves links empty, too.
func TestALayerIsWhatItsNameSaysWhateverItsLinkHolds(t *testing.T) {
	for what, damage := range damages {
		w := newWorld(t)
		d, _ := w.imageOf("app", "v1", "layer")
		l := digest.FromString("layer")
		for _, p := range []layout.Path{{Kind: layout.LayerLink, Repository: "app", Digest: l},
			{Kind: layout.RevisionLink, Repository: "app", Digest: digest.Digest(d)}} {
			w.write(p, damage(p.Digest.String()))
		}
		w.pull("app:v1")
		want := sorted("dangling link app@"+d, "dangling link app@"+l.String())
		if found := sorted(w.flaws()...); !slices.Equal(found, want) {
			t.Errorf("%s links: a check finds %q, want %q", what, found, want)
		}
	}
}

// TestAnEmptyLayerIsWhole: of nothing all is there.
func TestAnEmptyLayerIsWhole(t *testing.T) {
	w := newWorld(t)
	w.imageOf("app", "v1", "", "layer")
	w.want(200, "HEAD", "/v2/app/blobs/"+digestOf(nil), nil, "")
	w.want(201, "POST", "/v2/b/blobs/uploads/?mount="+digestOf(nil)+"&from=app", nil, "")
	w.pull("app:v1")
	w.restart()
	w.pull("app:v1")
	w.clean()
}
