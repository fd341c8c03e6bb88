#!/usr/bin/env bash
# Breaks the laws on purpose: applies each patch of torture/breakages to a copy of the tree, and wants the
# test that it names to fail. Arguments: names of patches; none: all of them.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | tar --null --files-from=- --create | tar --extract --directory="$copy"

header() { sed -n "s/^$2: //p;/^diff /q" "$1"; }

bad=0
for patch in "$root"/torture/breakages/*.patch; do
    name=$(basename "$patch" .patch)
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    read -r package test <<<"$(header "$patch" 'Caught by')"
    if ! grep -q "\`$name\`" docs/reliability.md; then
        echo "$name: docs/reliability.md does not list it"
        bad=1
    fi
    if ! (cd "$copy" && GIT_CEILING_DIRECTORIES=$(dirname "$copy") git apply "$patch"); then
        echo "$name: the patch does not apply any more"
        bad=1
        continue
    fi
    tags=()
    if [ "$package" = ./e2e ]; then # which runs a program
        tags=(-tags e2e)
        (cd "$copy" && go build -trimpath -o bin/dcs ./cmd/dcs)
    fi
    if out=$(cd "$copy" && DCS_BIN=$copy/bin/dcs go test "${tags[@]}" -count=1 -timeout 120s \
        -run "^${test//\//\$/^}\$" "$package" 2>&1); then
        echo "$name: $test passes though the law is broken"
        bad=1
    elif ! grep -q -e '--- FAIL: ' <<<"$out"; then
        printf '%s: the test did not run\n%s\n' "$name" "$out"
        bad=1
    else
        printf '%-45s caught by %s\n' "$name" "$test"
    fi
    (cd "$copy" && GIT_CEILING_DIRECTORIES=$(dirname "$copy") git apply --reverse "$patch")
done
exit "$bad"
