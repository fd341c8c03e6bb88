#!/bin/sh
# Installs what the end-to-end tests run dcs against: dockerd, the docker command, nginx, systemd, htpasswd, strace, an
# old registry, ext4, xfs, btrfs, and the clients that Debian has. The Makefile builds the others. Changes nothing when
# all exist.
set -eu

PATH=$PATH:/usr/sbin:/sbin # where dockerd and nginx are, and a plain user's PATH is not

has() { command -v "$1" >/dev/null 2>&1; }

apt_install() {
    [ "$(id -u)" = 0 ] || { echo "e2e: $* missing: run as root, or install with: sudo apt-get install $*" >&2; exit 1; }
    export DEBIAN_FRONTEND=noninteractive
    # Another apt may be at work; a machine without package lists needs an update first.
    set -- apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends "$@"
    "$@" </dev/null || { apt-get -o DPkg::Lock::Timeout=300 -qq update && "$@" </dev/null; }
}

has dockerd || apt_install docker.io
has docker || apt_install docker-cli # a package of its own since Debian 13
has nginx || apt_install nginx-light
has htpasswd || apt_install apache2-utils
has systemd-analyze || apt_install systemd
has docker-registry || apt_install docker-registry # 2.8, whose directories are adopted
has mkfs.ext4 || apt_install e2fsprogs
has mkfs.xfs || apt_install xfsprogs
has mkfs.btrfs || apt_install btrfs-progs
has strace || apt_install strace
has ip || apt_install iproute2
has podman || apt_install podman
has buildah || apt_install buildah
has skopeo || apt_install skopeo
has containerd && has ctr || apt_install containerd
has runc || apt_install runc
