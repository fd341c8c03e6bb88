//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	dockerLogin = "echo PASSWORD | docker login -u ci --password-stdin registry.example.com"
	dockerCerts = "/etc/docker/certs.d"
)

func playDocker(s *stage) {
	s.enters("docker pull registry.example.com/source/app:v1", s.trustByFolder(dockerCerts), dockerLogin)
	s.project(copyOnly)
	s.sh("docker build -t registry.example.com/team/app:v1 app")
	s.sh("docker push registry.example.com/team/app:v1")
	s.sh("docker tag registry.example.com/team/app:v1 registry.example.com/old/app:v1")
	s.sh("docker push registry.example.com/old/app:v1") // mounted
	s.sh("docker tag registry.example.com/team/app:v1 registry.example.com/team/list:amd64")
	s.sh("docker push registry.example.com/team/list:amd64")
	s.sh("docker manifest create registry.example.com/team/list:v1 registry.example.com/team/list:amd64")
	s.sh("docker manifest push registry.example.com/team/list:v1")
	s.sh("docker rmi registry.example.com/old/app:v1 registry.example.com/team/list:amd64")
	s.expires(func() {
		s.t.Helper()
		s.sh("docker rmi --force registry.example.com/team/app:v1 registry.example.com/team/list:v1")
		s.sh("docker pull registry.example.com/team/app:v1")
		s.sh("docker pull registry.example.com/team/list:v1")
		s.shows("docker run --rm --network none registry.example.com/team/app:v1", "hello from clients")
	}, "old/app")
	s.refused(regexp.MustCompile("not found|manifest unknown"), "docker pull registry.example.com/old/app:v1")
}

const buildxBuild = `docker buildx build --push -t registry.example.com/team/app:v1 --platform linux/amd64,linux/arm64 \
  --cache-to type=registry,ref=registry.example.com/team/cache:main,mode=max \
  --cache-from type=registry,ref=registry.example.com/team/cache:main app`

func playBuildx(s *stage) {
	s.startBuildkitd()
	s.plugBuildx()
	s.sh("docker buildx create --use --driver remote $BUILDKIT_HOST")
	s.project(copyOnly)
	s.entersBuildkit("docker buildx build --push -t registry.example.com/source/app:v2 app")
	s.sh(strings.ReplaceAll(buildxBuild, "/team/", "/old/"))
	s.sh(buildxBuild)
	former := slices.DeleteFunc(s.manifests(), func(m string) bool { return !strings.HasPrefix(m, "team/") })
	s.project(copyOnly) // so the tags move
	s.sh(buildxBuild)
	s.shows("docker buildx imagetools inspect registry.example.com/team/app:v1",
		"linux/amd64", "linux/arm64", "attestation-manifest", s.digest("team/app:v1"))
	s.expires(func() {
		s.t.Helper()
		s.sh("docker pull --platform linux/arm64 registry.example.com/team/app:v1")
		s.sh("docker rmi registry.example.com/team/app:v1")
		s.sh("docker buildx prune --all --force")
		s.shows("docker buildx build --progress plain --platform linux/amd64,linux/arm64 "+
			"--cache-from type=registry,ref=registry.example.com/team/cache:main "+
			"--output type=tar,dest=built.tar app", "CACHED")
	}, append(former, "old/app", "old/cache")...)
}

// plugBuildx makes the docker command of this stage's user have its plugin.
func (s *stage) plugBuildx() {
	s.t.Helper()
	plugin, err := exec.LookPath("buildx")
	if err != nil {
		s.t.Fatal(err)
	}
	plugins := filepath.Join(s.home, ".docker/cli-plugins")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Symlink(plugin, filepath.Join(plugins, "docker-buildx")); err != nil {
		s.t.Fatal(err)
	}
}
