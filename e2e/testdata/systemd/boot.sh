#!/bin/sh
# Boots a systemd of its own in the root directory $1, for TestSystemd: boot.sh ROOT CGROUP.
#
# It is the first process of new namespaces of processes, mounts, host names and IPC, as in a container, and its
# cgroups are below CGROUP, a new one. It knows the units below ROOT/etc/systemd/system and no others.
set -eu
root=$1 cgroup=$2

if [ $# = 2 ]; then # the namespace of cgroups must come after the cgroup
    echo 0 >"$cgroup/cgroup.procs"
    exec unshare --cgroup "$0" "$root" "$cgroup" inside
fi

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/old"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

cd "$root"
pivot_root . old
umount -l /old
mount --make-rshared / # systemd hands mounts, such as credentials, from one namespace to another
exec env -i container=dcs-e2e PATH="$PATH" SYSTEMD_UNIT_PATH=/etc/systemd/system \
    /lib/systemd/systemd --system --unit=multi-user.target
