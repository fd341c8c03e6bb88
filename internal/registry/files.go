package registry

import (
	"context"
	"net/http"
)

// files bounds how many files requests have open at a time. Those that wait for a client meanwhile, who may be
// slow, have no part in what the others need: manifests and lists are answered whatever is transferred.
type files struct{ transfers, moments lane }

// lane holds one entry for each request that may open files; nil: all may.
type lane chan struct{}

// What one request opens at most: a transfer its file, at its end another; a moment a file, and those of the index.
const (
	ofTransfer = 2
	ofMoment   = 3
)

func newFiles(descriptors int) files {
	if descriptors == 0 {
		return files{}
	}
	moments := max(1, descriptors/(3*ofMoment))
	return files{transfers: make(lane, max(1, (descriptors-moments*ofMoment)/ofTransfer)), moments: make(lane, moments)}
}

// transfers says that a request waits for its client while it has a file open.
func (r *request) transfers() bool {
	read := r.method == http.MethodGet || r.method == http.MethodHead
	switch r.kind {
	case routeBlob:
		return r.method == http.MethodGet
	case routeUploads, routeUpload:
		return !read
	}
	return false
}

// open waits until a request may open files: one that transfers until its end, another until its answer begins.
func (r *Registry) open(ctx context.Context, a *answer) error {
	l := r.files.moments
	if a.transfers = a.req.transfers(); a.transfers {
		l = r.files.transfers
	}
	if l == nil {
		return nil
	}
	select {
	case l <- struct{}{}:
		a.files = l
		return nil
	case <-ctx.Done():
		return errClientLeft
	}
}

// close is for a request that opens no more files.
func (a *answer) close() {
	if a.files != nil {
		<-a.files
		a.files = nil
	}
}
