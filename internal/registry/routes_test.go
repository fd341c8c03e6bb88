package registry

import "testing"

func TestWhatAPathAsksFor(t *testing.T) {
	for path, want := range map[string]route{
		"/":                             {kind: routeRoot},
		"/v2":                           {kind: routeBase},
		"/v2/":                          {kind: routeBase},
		"/v2/_catalog":                  {kind: routeCatalog},
		"/v2/a/blobs/uploads/":          {kind: routeUploads, name: "a"},
		"/v2/a/blobs/uploads":           {kind: routeUploads, name: "a"},
		"/v2/a/b/blobs/uploads/x":       {kind: routeUpload, name: "a/b", reference: "x"},
		"/v2/a/blobs/x":                 {kind: routeBlob, name: "a", reference: "x"},
		"/v2/a/manifests/x":             {kind: routeManifest, name: "a", reference: "x"},
		"/v2/a/manifests/":              {kind: routeManifest, name: "a"},
		"/v2/a/referrers/x":             {kind: routeReferrer, name: "a", reference: "x"},
		"/v2/a/tags/list":               {kind: routeTags, name: "a"},
		"/v2/a/blobs/uploads/tags/list": {kind: routeTags, name: "a/blobs/uploads"},
		"/v2/manifests/blobs/blobs/x":   {kind: routeBlob, name: "manifests/blobs", reference: "x"},
		"/v2/blobs/blobs/uploads":       {kind: routeUploads, name: "blobs"},
		"/v2/blobs/uploads/manifests/x": {kind: routeManifest, name: "blobs/uploads", reference: "x"},
		"/v2/a//manifests/x":            {kind: routeManifest, name: "a/", reference: "x"},
		"/v2/blobs/uploads/":            {kind: routeOther},
		"/v2/blobs/uploads/x":           {kind: routeOther},
		"/v2/manifests/x":               {kind: routeOther},
		"/v2/tags/list":                 {kind: routeOther},
		"/v2//blobs/uploads/":           {kind: routeOther},
		"/v2//manifests/x":              {kind: routeOther},
		"/v2/a":                         {kind: routeOther},
		"/v2/a/b/c":                     {kind: routeOther},
		"/metrics":                      {kind: routeOther},
		"":                              {kind: routeOther},
	} {
		if got := parseRoute(path); got != want {
			t.Errorf("%q: %+v, want %+v", path, got, want)
		}
	}
}
