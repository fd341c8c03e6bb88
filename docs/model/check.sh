#!/usr/bin/env bash
# Checks the models exhaustively: each holds as it stands, and fails when one law is taken away. `make model` runs it.
# OPS: requests of each client, 1 (a minute or two, 1 GB) or 2 (a quarter of an hour, 10 GB). DEPTHS=1: also say how
# short the shortest failure is. Arguments: models; none: all of them.
set -euo pipefail
cd "$(dirname "$0")"
ops=${OPS:-1}
only=$*
if [ "$ops" = 1 ]; then
    clients=1 memory=2000 # clients beside a crash or a loss; MB that spin may take
else
    clients=2 memory=12000
fi

has() { command -v "$1" >/dev/null 2>&1; }

apt_install() {
    [ "$(id -u)" = 0 ] || { echo "model: $* missing: run as root, or: sudo apt-get install $*" >&2; exit 1; }
    export DEBIAN_FRONTEND=noninteractive
    set -- apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends "$@"
    "$@" </dev/null || { apt-get -o DPkg::Lock::Timeout=300 -qq update && "$@" </dev/null; }
}

has spin || apt_install spin
has gcc || apt_install gcc libc6-dev

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# search MODEL FLAGS: leaves spin's report in pan.log. It fails when the search itself did.
search() {
    local model=$1 how=-O2
    shift
    if [[ "$*" == *-DX_* ]]; then # most of the time would go into the compiler
        how=-O0
        [ -z "${DEPTHS:-}" ] || how='-O1 -DBFS'
    fi
    cp "$model.pml" "$work"
    cd "$work"
    # shellcheck disable=SC2086 # several flags
    spin -a "$@" "$model.pml" && gcc $how -DSAFETY -DCOLLAPSE -DMEMLIM="$memory" -w -o pan pan.c || return
    ./pan -m1000000 >pan.log && grep -q 'errors: ' pan.log
}

# check holds|fails MODEL FLAGS: whether spin says so.
check() {
    local want=$1 model=$2 said=
    shift 2
    [ -z "$only" ] || [[ " $only " == *" $model "* ]] || return 0
    if ! (search "$model" "$@") >"$work/output" 2>&1; then
        cat "$work/output" "$work/pan.log"
        said='could not be searched'
    elif ! grep -q 'errors: 0$' "$work/pan.log"; then
        said="fails${DEPTHS:+, at depth $(sed -n 's/.*(at depth \([0-9]*\)).*/\1/p' "$work/pan.log")}"
    elif grep -q 'Search not completed' "$work/pan.log"; then
        said="not searched to the end, with $memory MB"
    else
        said="holds, $(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/pan.log") states"
    fi
    [[ "$said" == "$want"* ]] || { said="$said: WRONG"; bad=1; }
    printf '%-11s %-62s %s\n' "$model" "$*" "$said"
}

# without MODEL FLAGS -- LAWS: fails without each of them.
without() {
    local flags=() law
    while [ "$1" != -- ]; do
        flags+=("$1")
        shift
    done
    shift
    for law; do check fails "${flags[@]}" -DX_"$law"; done
}

check holds protocol -DOPS="$ops"
without protocol -DOPS=1 -- CUTOFF LOOK_FIRST LINK_UNLEASED CLAIM_AFTER RELAXED_CLAIM BLIND_PLACE NO_LOOK
without protocol -DOPS=1 -- UNCONDITIONAL RENAME_AFTER NO_INHERIT FREE_DELETE
check holds protocol -DOPS=1 -DCLIENTS="$clients" -DCRASH
check holds protocol -DOPS=1 -DCLIENTS="$clients" -DLOSS
without protocol -DOPS=1 -DCLIENTS=1 -DLOSS -- NO_GATE DELETE_UNGATED
check holds protocol -DOPS=1 -DCLIENTS="$clients" -DLOSS -DFILE_DATES
without protocol -DOPS=1 -DCLIENTS=1 -DLOSS -DFILE_DATES -- NO_HOLD SHORT_HOLD
check holds protocol -DOPS=1 -DCLIENTS="$clients" -DLOSS -DUNREAD
without protocol -DOPS=1 -DCLIENTS=1 -DLOSS -DUNREAD -- UNREAD_BLOBS

check holds tags -DOPS="$ops"
without tags -DOPS=1 -- TAG_ALONE MANIFEST_ALONE EARLY_TAG BLIND_PLACE SPLIT_DELETE

check holds recency -DOPS="$ops"
without recency -DOPS=1 -- TAG_ALONE PARTS_ALONE REFERRER_ALONE ADOPTED_ALONE NO_INHERIT STALE_PLAN FREE_PARTS
check holds recency -DOPS="$ops" -DBUDGET
without recency -DOPS=1 -DBUDGET -- NO_FLOOR

check holds bytes -DOPS="$ops"
without bytes -DOPS=1 -- NO_IMAGE MANIFEST_ONLY ALL_IMAGES HEAD_ANSWERS LOWER_IMAGE FROM_READ ALL_PARTS

check holds circles
without circles -- CIRCLES OWN_EDGE WIDE
check holds circles -DCHAIN
without circles -DCHAIN -- CIRCLES OWN_EDGE WIDE

check holds signatures -DOPS="$ops"
without signatures -DOPS=1 -- SIGNATURE_ALONE BOTH_WAYS SIGNATURE_HOLD
check holds signatures -DOPS="$ops" -DMUTUAL
without signatures -DOPS=1 -DMUTUAL -- SIGNATURE_EDGE

check holds servers -DOPS="$ops"
without servers -DOPS=1 -- REPLACES_ANY BEAT_FINDS_NO_ROW OWN_GRACE LATE_ROW LEAVES

check holds pending -DOPS="$ops"
without pending -DOPS=1 -- NO_LOOK DELETE_PENDING PLACE_NO_USE LEAVES_LATE TREE_FIRST
check holds pending -DOPS=1 -DKILL
without pending -DOPS=1 -DKILL -- FORGET
check holds pending -DOPS=1 -DPOWER -DFAULT
without pending -DOPS=1 -DPOWER -- TAG_FIRST BLIND_START
without pending -DOPS=1 -DPOWER -DFAULT -- RETRY FAULT_GOES_ON
check holds pending -DOPS=1 -DPOWER -DFAULT -DLOOSE
without pending -DOPS=1 -DPOWER -DLOOSE -- ONE_PHASE
without pending -DOPS=1 -DPOWER -DFAULT -DLOOSE -- NAMES_STAY
check holds pins
without pins -- STALE_PLAN FREE_DELETE DELETE_UNKNOWN ROW_ALONE NO_LOOK UNLOCKED BROKEN_IS_NONE UNKNOWN_IS_NONE
without pins -- ALIGN_FIRST
check holds clean
without clean -- TRUSTED BOOT HOLLOW LOOK_LATE BLIND ABSORBED NOT_LIFTED COUNTLESS
check holds clean -DTAG
without clean -DTAG -- SAME_TICK

exit "$bad"
