//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

const buildxBuild = `docker buildx build --platform linux/amd64,linux/arm64 --push -t registry.example.com/team/app:v1 \
  --cache-to type=registry,ref=registry.example.com/team/cache:main,mode=max \
  --cache-from type=registry,ref=registry.example.com/team/cache:main app`

func playBuildx(s *stage) {
	s.plugBuildx()
	s.startBuildkitd()
	s.sh("docker buildx create --use --driver remote $BUILDKIT_HOST")
	s.project(copyOnly)
	s.entersBuildkit("docker buildx build --push -t registry.example.com/source/app:v2 app")
	s.sh(buildxBuild)
	former := s.digest("team/app:v1")
	s.sh(strings.ReplaceAll(buildxBuild, "/team/", "/old/"))
	s.project(copyOnly) // so the tags move
	s.sh(buildxBuild)
	s.shows("docker buildx imagetools inspect registry.example.com/team/app:v1",
		"linux/amd64", "linux/arm64", "attestation-manifest", s.digest("team/app:v1"))
	if now := s.digest("team/app:v1"); now == former {
		s.t.Fatalf("a build of other files is %s again", now)
	}
	s.enterDocker()
	s.expires(func() {
		s.t.Helper()
		s.sh("docker pull --platform linux/arm64 registry.example.com/team/app:v1")
		s.sh("docker rmi registry.example.com/team/app:v1")
		s.shows(buildxBuild, "importing cache manifest from "+s.addr+"/team/cache:main")
	}, "old/app", "old/cache", "team/app@"+former)
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

// enterDocker lets dockerd in, where docker login was for a builder.
func (s *stage) enterDocker() {
	s.t.Helper()
	if s.transport == overTLS {
		s.trustByFolder(dockerCerts)()
	}
}
