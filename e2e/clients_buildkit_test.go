//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// What buildkitd.toml says about a registry without TLS, and about one with a CA of its own.
const (
	buildkitPlain = `[registry."registry.example.com:5000"]
  http = true
`
	buildkitTrusts = `[registry."registry.example.com:5000"]
  ca = ["/etc/buildkit/ca.crt"]
`
)

// startBuildkitd starts a buildkitd for this stage: to prune the cache of one under a build elsewhere breaks that.
func (s *stage) startBuildkitd() {
	s.t.Helper()
	config := fmt.Sprintf(`root = %q
[worker.oci]
  enabled = true
  networkMode = "host"
[worker.containerd]
  enabled = false
`, filepath.Join(s.home, "buildkit"))
	registry := buildkitPlain
	if s.transport == overTLS {
		registry = buildkitTrusts
	}
	s.played.add(registry)
	config += strings.ReplaceAll(s.here(registry), "/etc/buildkit/ca.crt", s.ca)
	socket := "unix://" + filepath.Join(s.home, "buildkitd.sock")
	daemon := start(s.t, exec.Command("buildkitd", "--addr", socket, "--config", s.write("buildkitd.toml", config)))
	ready(s.t, daemon, exec.Command("buildctl", "--addr", socket, "debug", "workers"))
	s.env = append(s.env, "BUILDKIT_HOST="+socket)
}

const buildctlBuild = `buildctl build --frontend dockerfile.v0 --local context=app --local dockerfile=app \
  --output type=image,name=registry.example.com/team/app:v1,push=true \
  --export-cache type=registry,ref=registry.example.com/team/cache:main,mode=max \
  --import-cache type=registry,ref=registry.example.com/team/cache:main`

// entersBuildkit is enters for what buildkitd does: it read its CAs when it started, so the name that it was told
// nothing about has to do.
func (s *stage) entersBuildkit(command string) {
	s.t.Helper()
	if s.transport == overTLS {
		s.refused(untrusted, strings.ReplaceAll(command, documentedHost,
			strings.ReplaceAll(s.addr, stageHost, strangerHost)))
		s.trustByFolder(dockerCerts)() // docker login asks the registry itself
		s.trustByFile()                // and so do some commands of buildx
	}
	if s.transport != overHTTP {
		s.refused(notLoggedIn, command)
		s.sh(dockerLogin)
	}
}

func playBuildctl(s *stage) {
	s.startBuildkitd()
	s.project(twoSteps)
	s.entersBuildkit(strings.ReplaceAll(buildctlBuild, "/team/", "/source/"))
	s.sh(buildctlBuild)
	s.refused(regexp.MustCompile("OCI mediatypes are required"),
		strings.ReplaceAll(buildctlBuild, "mode=max", "image-manifest=true,oci-mediatypes=false"))
	s.sh(strings.ReplaceAll(buildctlBuild, "/team/", "/old/"))
	const exports = "  --export-cache type=registry,ref=registry.example.com/team/cache:main,mode=max \\\n"
	again := strings.Replace(buildctlBuild, exports, "", 1) // BuildKit may write another cache of the same steps
	s.expires(func() {
		s.t.Helper()
		s.sh("buildctl prune --all")
		s.wantCached(s.sh(again), false)
	}, "old/app", "old/cache")
}

// A build that runs something, and throws away the stage that did.
const twoSteps = `FROM scratch AS build
COPY hello /hello
COPY ballast /ballast
RUN ["/hello"]
FROM scratch
COPY --from=build /hello /hello
CMD ["/hello"]
`

// cacheForms is every form that BuildKit writes a cache in. An image manifest with docker's media types is none:
// BuildKit refuses to.
var cacheForms = []string{
	"image-manifest=true,oci-mediatypes=true,mode=min",
	"image-manifest=true,oci-mediatypes=true,mode=max",
	"image-manifest=false,oci-mediatypes=true,mode=min",
	"image-manifest=false,oci-mediatypes=true,mode=max",
	"image-manifest=false,oci-mediatypes=false,mode=min",
	"image-manifest=false,oci-mediatypes=false,mode=max",
}

// playCache exports a cache three times to one tag, and imports it when nothing is left of it here. What the tag
// pointed to first goes by its own last use; what it pointed to then is used by its digest, and stays.
func playCache(s *stage, form string) {
	build := func(repository, flags string) string {
		return "buildctl build --frontend dockerfile.v0 --local context=app --local dockerfile=app --progress plain " +
			fmt.Sprintf(flags, "type=registry,ref=registry.example.com/"+repository+":main")
	}
	export := "--export-cache %s," + form
	s.startBuildkitd()
	s.project(twoSteps)
	s.sh(build("old/cache", export))
	var exported []string
	for range 3 {
		s.project(twoSteps)
		s.sh(build("team/cache", export))
		exported = append(exported, "team/cache@"+s.digest("team/cache:main"))
	}
	former, inUse := exported[0], exported[1]
	if former == inUse || inUse == exported[2] {
		s.t.Fatalf("the caches of three builds are %q", exported)
	}

	s.sh("buildctl prune --all")
	if out := s.sh(build("team/cache", "--opt build-arg:nothing=%[1]s")); strings.Contains(out, "CACHED") {
		s.t.Fatalf("what was pruned is there without an import, so this test would see nothing:\n%s", out)
	}
	s.expires(func() {
		s.t.Helper()
		s.sh("buildctl prune --all")
		s.wantCached(s.sh(build("team/cache", "--import-cache %s --output type=tar,dest=built.tar")),
			strings.Contains(form, "mode=min"))
		s.digest(inUse)
	}, "old/cache", former)
}

var lastStepCached = regexp.MustCompile(`COPY --from=build /hello /hello\n#\d+ CACHED`)

// wantCached wants a build of twoSteps to have taken its last step from a cache; and all steps before it, unless the
// cache is of mode=min, which holds the layers of the result only.
func (s *stage) wantCached(log string, minimal bool) {
	s.t.Helper()
	if !lastStepCached.MatchString(log) || !minimal && strings.Contains(log, "hello from clients") {
		s.t.Errorf("the build did not use the cache:\n%s", log)
	}
}
