#!/bin/sh
# Builds programs of a module that `go install` refuses, because its go.mod has replace or exclude directives, which
# count in the main module only: so the module is copied out of the module cache, and built there as the main module.
#
#     e2e/install_module.sh github.com/moby/buildkit@v0.34.2 FOLDER ./cmd/buildctl ./cmd/buildkitd
set -eu

module=$1 folder=$2
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Outside of any module: nothing of ours may decide about its versions.
source=$(cd "$work" && go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$source" "$work/source"
chmod -R u+w "$work/source"
mkdir -p "$work/bin"
(cd "$work/source" && go build -mod=mod -trimpath -o "$work/bin/" "$@")
mkdir -p "$folder" # only now: a folder that is there is complete
mv "$work"/bin/* "$folder"
