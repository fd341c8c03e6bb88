package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
)

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func (s *server) request(method, path string, body []byte, contentType string) (int, []byte) {
	req, err := http.NewRequest(method, "http://"+s.host+path, bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return 0, nil
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return 0, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Error(err)
	}
	return resp.StatusCode, data
}

// uploadURL begins an upload.
func (s *server) uploadURL(repo string) string {
	resp, err := http.Post("http://"+s.host+"/v2/"+repo+"/blobs/uploads/", "", nil)
	if err != nil {
		s.t.Error(err)
		return ""
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		s.t.Errorf("POST upload: %d", resp.StatusCode)
	}
	return resp.Header.Get("Location")
}

// upload stores a blob.
func (s *server) upload(repo string, data []byte) {
	req, err := http.NewRequest("PUT", s.uploadURL(repo)+"&digest="+digestOf(data), bytes.NewReader(data))
	if err != nil {
		s.t.Error(err)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		s.t.Errorf("PUT upload of %s: %d", repo, resp.StatusCode)
	}
}
