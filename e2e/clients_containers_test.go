//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

const containersCerts = "/etc/containers/certs.d"

// containers prepares podman and buildah, which share a configuration, to work in this stage only.
func (s *stage) containers() {
	s.t.Helper()
	store := s.write("storage.conf", fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n",
		filepath.Join(s.home, "root"), filepath.Join(s.home, "run")))
	engine := s.write("containers.conf", fmt.Sprintf(
		"[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\ntmp_dir = %q\n",
		filepath.Join(s.home, "libpod")))
	s.env = append(s.env, "CONTAINERS_STORAGE_CONF="+store, "CONTAINERS_CONF="+engine, "BUILDAH_ISOLATION=chroot",
		"DOCKER_CONFIG=") // they would insist on docker's login
}

func playPodman(s *stage) {
	s.containers()
	s.enters("podman pull registry.example.com/source/app:v1", s.trustByFolder(containersCerts),
		"echo PASSWORD | podman login -u ci --password-stdin registry.example.com")
	s.project(copyOnly)
	s.sh("podman build -t registry.example.com/team/app:v1 app")
	s.sh("podman push registry.example.com/team/app:v1")
	s.sh("podman push --format v2s2 registry.example.com/team/app:v1 registry.example.com/old/app:v1")
	s.sh("podman build --no-cache --platform linux/amd64,linux/arm64 --manifest list app")
	s.shows("podman manifest inspect list", `"amd64"`, `"arm64"`)
	s.sh("podman manifest push --all list docker://registry.example.com/team/list:v1")
	s.expires(func() {
		s.t.Helper()
		s.sh("podman rmi --all --force")
		s.sh("podman pull registry.example.com/team/app:v1")
		s.sh("podman pull registry.example.com/team/list:v1")
	}, "old/app")
	s.refused(regexp.MustCompile("manifest unknown"), "podman pull registry.example.com/old/app:v1")
}

const buildahBuild = `buildah build --layers -t registry.example.com/team/app:v1 \
  --cache-to registry.example.com/team/cache --cache-from registry.example.com/team/cache app`

func playBuildah(s *stage) {
	s.containers()
	s.enters("buildah pull registry.example.com/source/app:v1", s.trustByFolder(containersCerts),
		"echo PASSWORD | buildah login -u ci --password-stdin registry.example.com")
	s.project(copyOnly)
	s.shows(strings.ReplaceAll(buildahBuild, "/team/", "/old/"), "Pushing cache")
	s.sh("buildah push registry.example.com/old/app:v1")
	s.project(copyOnly)
	s.shows(buildahBuild, "Pushing cache")
	s.sh("buildah push registry.example.com/team/app:v1")
	s.expires(func() {
		s.t.Helper()
		s.sh("buildah rmi --all --force")
		s.shows(buildahBuild, "Cache pulled from remote")
		s.sh("buildah pull --policy always registry.example.com/team/app:v1") // it is here: the build made it
	}, "old/app", "old/cache")
	s.sh("buildah rmi --all --force")
	s.sh("buildah pull registry.example.com/team/app:v1")
}

func playSkopeo(s *stage) {
	s.enters("skopeo inspect docker://registry.example.com/source/app:v1", s.trustByFolder(containersCerts),
		"echo PASSWORD | skopeo login -u ci --password-stdin registry.example.com")
	s.sh("skopeo copy docker://registry.example.com/source/app:v1 docker://registry.example.com/team/app:v1") // mounted
	s.sh("skopeo copy --all docker://registry.example.com/team/app:v1 oci:app:v1")
	s.sh("skopeo copy --dest-compress-format zstd oci:app:v1 docker://registry.example.com/team/app:zstd")
	s.sh("skopeo copy oci:app:v1 docker://registry.example.com/team/app:deleted")
	s.sh("skopeo copy oci:app:v1 docker://registry.example.com/old/app:v1")
	s.sh("skopeo sync --src docker --dest docker registry.example.com/team/app registry.example.com/mirror")
	s.shows("skopeo list-tags docker://registry.example.com/mirror/app", `"deleted"`, `"v1"`, `"zstd"`)
	s.sh("skopeo delete docker://registry.example.com/mirror/app:zstd")
	if out := s.sh("skopeo list-tags docker://registry.example.com/mirror/app"); strings.Contains(out, "zstd") {
		s.t.Errorf("a deleted tag is listed:\n%s", out)
	}
	s.expires(func() {
		s.t.Helper()
		s.shows("skopeo inspect docker://registry.example.com/team/app:v1", s.digest("team/app:v1"))
		s.sh("rm -rf backup && skopeo sync --src docker --dest dir registry.example.com/team/app backup")
		s.sh("rm -rf mirror && skopeo sync --src docker --dest dir registry.example.com/mirror/app mirror")
	}, "old/app")
}

// What ctr is told by hand, a containerd below Kubernetes reads here.
const (
	ctrCerts     = "certs.d"
	ctrPlainHost = `server = "http://registry.example.com:5000"
[host."http://registry.example.com:5000"]
  capabilities = ["pull", "resolve", "push"]
`
	ctrTrustsHost = `server = "https://registry.example.com:5000"
[host."https://registry.example.com:5000"]
  capabilities = ["pull", "resolve", "push"]
  ca = "/etc/containerd/ca.crt"
`
)

func playCtr(s *stage) {
	const pull = "ctr images pull --user ci:PASSWORD registry.example.com/team/app:v1"
	source := strings.ReplaceAll(pull, "/team/", "/source/")
	if s.transport == overTLS {
		s.refused(untrusted, source)
		s.trustByFile()
	}
	if s.transport != overHTTP {
		s.refused(notLoggedIn, strings.ReplaceAll(source, "--user ci:PASSWORD ", ""))
		s.refused(notLoggedIn, strings.ReplaceAll(source, "PASSWORD", "wrong"))
	}
	s.sh(source)
	for _, ref := range []string{"team/app:v1", "old/app:v1"} {
		s.sh("ctr images tag registry.example.com/source/app:v1 registry.example.com/" + ref)
		s.sh("ctr images push --user ci:PASSWORD registry.example.com/" + ref)
	}
	s.sh("ctr images rm --sync registry.example.com/source/app:v1 registry.example.com/old/app:v1")
	s.expires(func() {
		s.t.Helper()
		s.sh("ctr images rm --sync registry.example.com/team/app:v1")
		s.sh(pull)
		s.sh("ctr images rm --sync registry.example.com/team/app:v1")
		s.byHosts(pull)
	}, "old/app")
}

// byHosts runs a ctr command by a hosts.toml instead of flags.
func (s *stage) byHosts(line string) {
	s.t.Helper()
	text := ctrPlainHost
	if s.transport == overTLS {
		text = ctrTrustsHost
	}
	s.configure(filepath.Join(s.home, ctrCerts, s.addr, "hosts.toml"), text)
	s.write(filepath.Join(ctrCerts, s.addr, "hosts.toml"), strings.ReplaceAll(s.here(text), "/etc/containerd/ca.crt",
		s.ca))
	line = strings.ReplaceAll(line, "ctr images pull", "ctr images pull --hosts-dir "+ctrCerts)
	if out, code := s.attempt("SSL_CERT_FILE= " + line); code != 0 {
		s.t.Errorf("%s\nexit code %d\n%s", line, code, out)
	}
}

func playCrane(s *stage) {
	s.enters("crane digest registry.example.com/source/app:v1", s.trustByFile,
		"echo PASSWORD | crane auth login -u ci --password-stdin registry.example.com")
	for _, arch := range []string{"amd64", "arm64"} {
		s.write(arch+".tar", tarOf(s.t, arch, ballast(1<<20)))
		ref := "registry.example.com/team/app:" + arch
		s.sh("crane append --oci-empty-base -f " + arch + ".tar -t " + ref)
		s.sh("crane mutate " + ref + " --cmd /hello --set-platform linux/" + arch + " -t " + ref)
	}
	s.sh("crane index append --docker-empty-base=false -m registry.example.com/team/app:amd64 " +
		"-m registry.example.com/team/app:arm64 " +
		"-t registry.example.com/team/app:v1")
	s.sh("crane copy registry.example.com/team/app:v1 registry.example.com/mirror/app:v1") // mounted
	s.sh("crane copy registry.example.com/team/app:arm64 registry.example.com/old/app:v1")
	s.sh("crane pull --format oci registry.example.com/team/app:v1 saved")
	s.sh("crane push --index saved registry.example.com/team/app:again")
	s.sh("crane tag registry.example.com/team/app:v1 v2")
	s.shows("crane ls registry.example.com/team/app", "amd64", "arm64", "v1", "v2")
	s.shows("crane catalog registry.example.com", "team/app", "mirror/app", "old/app")
	s.sh("crane copy registry.example.com/source/app:v1 registry.example.com/mirror/app:deleted")
	s.sh("crane delete registry.example.com/mirror/app@$(crane digest registry.example.com/mirror/app:deleted)")
	s.refused(regexp.MustCompile("MANIFEST_UNKNOWN|404"), "crane manifest registry.example.com/mirror/app:deleted")
	// The manifests that crane mutate replaced have no tag any more: nobody asks for them.
	replaced := s.untagged("team/app", "amd64", "arm64", "v1")
	s.expires(func() {
		s.t.Helper()
		for _, tag := range []string{"team/app:amd64", "team/app:arm64", "team/app:v1", "mirror/app:v1"} {
			s.sh("crane validate --remote registry.example.com/" + tag)
		}
		s.sh("crane export --platform linux/" + runtime.GOARCH + " registry.example.com/team/app:v1 exported.tar")
	}, append(replaced, "old/app")...)
}

// untagged lists the manifests of a repository that are none of these tags.
func (s *stage) untagged(repository string, tags ...string) (others []string) {
	s.t.Helper()
	known := map[string]bool{}
	for _, tag := range tags {
		known[repository+"@"+s.digest(repository+":"+tag)] = true
	}
	for _, m := range s.manifests() {
		if strings.HasPrefix(m, repository+"@") && !known[m] {
			others = append(others, m)
		}
	}
	return others
}

func playRegctl(s *stage) {
	if s.transport != overTLS {
		s.sh("regctl registry set --skip-check --tls disabled registry.example.com")
	}
	s.enters("regctl manifest head registry.example.com/source/app:v1", s.trustByFile,
		"echo PASSWORD | regctl registry login -u ci --pass-stdin registry.example.com")
	// mounted, without from=
	s.sh("regctl image copy registry.example.com/source/app:v1 registry.example.com/team/app:v1")
	s.sh("regctl image copy registry.example.com/team/app:v1 ocidir://app:v1")
	s.sh("regctl image copy ocidir://app:v1 registry.example.com/old/app:v1")
	s.write("sbom.json", "{}")
	s.sh("regctl artifact put --artifact-type application/spdx+json " +
		"--subject registry.example.com/team/app:v1 -m application/json <sbom.json")
	s.sh("regctl artifact put --artifact-type application/spdx+json " +
		"--subject registry.example.com/old/app:v1 -m application/json <sbom.json")
	s.shows("regctl artifact tree registry.example.com/team/app:v1", "application/spdx+json")
	s.sh("regctl image copy --referrers registry.example.com/team/app:v1 registry.example.com/mirror/app:v1")
	s.sh("regctl image copy registry.example.com/team/app:v1 registry.example.com/team/app:v2")
	s.sh("regctl tag delete registry.example.com/team/app:v2")
	s.shows("regctl tag ls registry.example.com/team/app", "v1")
	s.shows("regctl repo ls registry.example.com", "team/app", "mirror/app")

	s.sh("regctl image mod registry.example.com/team/app:v1 --digest-algo sha512 " +
		"--create registry.example.com/team/app:sha512")
	s.shows("regctl image digest registry.example.com/team/app:sha512", "sha512:")

	s.sh("regctl registry set --blob-chunk 1048576 --blob-max 2097152 registry.example.com")
	s.write("large", string(ballast(5<<20+1)))
	dgst := strings.TrimSpace(s.sh("regctl blob put registry.example.com/chunked/blob <large"))
	s.sh("regctl blob get registry.example.com/chunked/blob " + dgst + " >got && cmp large got")
	s.sh("regctl artifact put --artifact-type application/x -m application/octet-stream " +
		"registry.example.com/team/large:v1 <large")
	s.expires(func() {
		s.t.Helper()
		s.sh("rm -rf app && regctl image copy --referrers registry.example.com/team/app:v1 ocidir://app:v1")
		s.sh("rm -rf app512 && regctl image copy registry.example.com/team/app:sha512 ocidir://app512:v1")
		s.shows("regctl artifact tree registry.example.com/mirror/app:v1", "application/spdx+json")
		s.shows("regctl artifact list registry.example.com/team/app:v1", "application/spdx+json")
		s.shows("regctl artifact get --subject registry.example.com/team/app:v1", "{}")
		s.sh("regctl artifact get registry.example.com/team/large:v1 >got && cmp large got")
	}, "old/app")
	if err := leftovers(s.dir, "chunked/blob"); err != nil {
		s.t.Errorf("a blob that no manifest names: %v", err)
	}
}
