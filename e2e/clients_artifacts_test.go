//go:build e2e

package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
)

func playOras(s *stage) {
	s.enters("oras pull registry.example.com/source/app:v1", s.trustByFile,
		"echo PASSWORD | oras login -u ci --password-stdin registry.example.com")
	s.write("report.txt", "all is well\n")
	s.write("more/data", string(ballast(1<<20)))
	s.write("sbom.json", "{}")
	const push = "oras push registry.example.com/team/report:v1 " +
		"--artifact-type application/vnd.example.report report.txt:text/plain more"
	const attach = "oras attach registry.example.com/team/report:v1 --artifact-type application/spdx+json sbom.json"
	const discover = "oras discover registry.example.com/team/report:v1"
	s.sh(push)
	s.sh(attach)
	s.shows(discover, "application/spdx+json", "sha256:")
	s.sh(strings.ReplaceAll(push, "/team/", "/old/"))
	s.sh(strings.ReplaceAll(attach, "/team/", "/old/"))
	s.sh("oras cp -r registry.example.com/team/report:v1 registry.example.com/mirror/report:v1")
	s.sh("oras tag registry.example.com/team/report:v1 v2")
	s.shows("oras repo tags registry.example.com/team/report", "v1", "v2")

	s.sh(strings.ReplaceAll(push, "team/report", "team/deleted"))
	s.sh("oras manifest delete -f registry.example.com/team/deleted:v1")
	s.refused(regexp.MustCompile("not found"), "oras manifest fetch registry.example.com/team/deleted:v1")
	dgst := strings.TrimSpace(s.sh("oras blob push registry.example.com/loose/blob more/data >/dev/null && " +
		"sha256sum more/data | sed 's/ .*//'"))
	s.sh("oras blob delete -f registry.example.com/loose/blob@sha256:" + dgst)
	s.expires(func() { // what is attached lives with it, although nobody asks
		s.t.Helper()
		s.sh("oras pull registry.example.com/team/report:v1 -o out")
		s.sh("cmp report.txt out/report.txt && cmp more/data out/more/data")
		s.sh("oras pull registry.example.com/mirror/report:v1 -o out")
	}, "old/report")
	s.shows(discover, "application/spdx+json")
	s.shows("oras discover registry.example.com/mirror/report:v1", "application/spdx+json")
	for _, repository := range []string{"team/deleted", "loose/blob"} {
		if err := leftovers(s.dir, repository); err != nil {
			s.t.Errorf("what oras deleted: %v", err)
		}
	}
}

func playHelm(s *stage) {
	s.enters("helm pull oci://registry.example.com/source/app --version v1", s.trustByFile,
		"echo PASSWORD | helm registry login -u ci --password-stdin registry.example.com")
	s.sh("helm create demo && helm lint demo")
	s.sh("helm package demo")
	s.sh("helm push demo-0.1.0.tgz oci://registry.example.com/charts")
	s.sh("helm push demo-0.1.0.tgz oci://registry.example.com/old")
	s.sh("helm package demo --version 0.2.0")
	s.sh("helm push demo-0.2.0.tgz oci://registry.example.com/charts")
	s.shows("helm show chart oci://registry.example.com/charts/demo", "version: 0.2.0") // the newest, of all tags
	s.sh("mkdir pulled")
	s.expires(func() {
		s.t.Helper()
		s.sh("helm pull oci://registry.example.com/charts/demo --version 0.1.0")
		s.sh("helm pull oci://registry.example.com/charts/demo --version 0.2.0 -d pulled && " +
			"cmp demo-0.2.0.tgz pulled/demo-0.2.0.tgz")
	}, "old/demo")
}

const verified = "The signatures were verified against the specified public key"

// startSigning makes the key, and the images: one that is signed and used, one that is signed and forgotten.
func (s *stage) startSigning() {
	s.t.Helper()
	s.enters("cosign triangulate registry.example.com/source/app:v1", s.trustByFile,
		"echo PASSWORD | cosign login -u ci --password-stdin registry.example.com")
	s.sh("cosign generate-key-pair")
	for _, repository := range []string{"team/app", "old/app"} {
		pushImage(s.t, s.addr+"/"+repository+":v1", s.image(), s.options()...)
	}
}

// ofDigest is a command line about the digest of a tag, which is what one signs.
func (s *stage) ofDigest(line, repository string) string {
	s.t.Helper()
	return strings.ReplaceAll(line, "team/app@DIGEST", repository+"@"+s.digest(repository+":v1"))
}

func playCosignTag(s *stage) {
	const sign = "cosign sign --key cosign.key --tlog-upload=false registry.example.com/team/app@DIGEST"
	const verify = "cosign verify --key cosign.pub --insecure-ignore-tlog=true registry.example.com/team/app:v1"
	s.startSigning()
	for _, repository := range []string{"team/app", "old/app"} {
		s.played.add(sign)
		s.sh(s.ofDigest(sign, repository))
	}
	s.write("predicate.json", `{"builder": "e2e"}`)
	s.sh(s.ofDigest(
		"cosign attest --key cosign.key --tlog-upload=false --predicate predicate.json "+
			"registry.example.com/team/app@DIGEST",
		"team/app"))
	s.refused(regexp.MustCompile("no signatures found"),
		"cosign verify --key cosign.pub --insecure-ignore-tlog=true registry.example.com/source/app:v1")
	s.shows(verify, verified)
	image := s.digest("team/app:v1")
	// what is said about an image lives with it, although nobody asks
	s.expires(func() { s.pulls("team/app:v1", image) }, "old/app")
	s.shows(verify, verified)
	s.shows("cosign verify-attestation --key cosign.pub --insecure-ignore-tlog=true "+
		"--type custom registry.example.com/team/app:v1",
		verified)
	s.shows("cosign tree registry.example.com/team/app:v1", "Signatures for an image tag",
		"Attestations for an image tag")
}

func playCosignReferrer(s *stage) {
	const sign = "COSIGN_EXPERIMENTAL=1 cosign sign --registry-referrers-mode=oci-1-1 " +
		"--key cosign.key --tlog-upload=false registry.example.com/team/app@DIGEST"
	const verify = "COSIGN_EXPERIMENTAL=1 cosign verify --experimental-oci11 --key cosign.pub " +
		"--insecure-ignore-tlog=true registry.example.com/team/app:v1"
	s.startSigning()
	for _, repository := range []string{"team/app", "old/app"} {
		s.played.add(sign)
		s.sh(s.ofDigest(sign, repository))
	}
	if tags := filesOf(s.t, filepath.Join(s.root(),
		"repositories/team/app/_manifests/tags")); strings.Contains(strings.Join(tags, " "), ".sig/") {
		s.t.Errorf("a signature by referrer has a tag of the old form: %q", tags)
	}
	s.shows(verify, verified)
	image := s.digest("team/app:v1")
	s.expires(func() { s.pulls("team/app:v1", image) }, "old/app")
	s.shows(verify, verified)
}
