#!/usr/bin/env bash
# Builds the Dockerfile and runs the landcover example in the image, without a Docker engine.
#
#     sudo examples/container/run.sh [EXTRAS]       EXTRAS: landcover if not given
#
# Needs root, and the packages buildah and mmdebstrap of Debian or Ubuntu:
#
#     apt-get install buildah mmdebstrap
#
# The base image is made by mmdebstrap, from SUITE (bookworm) of MIRROR (Debian's own), so no
# registry of images is used. Everything is kept in a temporary folder below TMPDIR, about 3 GB,
# which is removed at the end; set KEEP=1 to keep it.
set -euo pipefail

extras=${1-landcover}
suite=${SUITE-bookworm}
mirror=${MIRROR-http://deb.debian.org/debian}
root=$(cd "$(dirname "$0")/../.." && pwd)

fail() {
    echo "run.sh: $*" >&2
    exit 2
}

if [ "$(id -u)" != 0 ]; then
    fail "must run as root, because it makes file systems; run it with sudo"
fi
for tool in buildah mmdebstrap; do
    command -v "$tool" >/dev/null || fail "needs $tool; run: apt-get install $tool"
done

work=$(mktemp -d -t rvrun-container-XXXXXXXX)
# chroot isolation and the plain storage driver need no user namespaces, overlayfs or systemd.
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
# Storage of its own: nothing of this machine's images is read, changed or left behind.
buildah() {
    command buildah --root "$work/storage" --runroot "$work/run" "$@"
}

clean_up() {
    code=$?
    if [ -n "${KEEP-}" ]; then
        echo "run.sh: kept $work"
    else
        # Unmounts what an interrupted step left mounted; the folder is not removed before that.
        buildah rm --all >/dev/null 2>&1 || true
        if grep -q " $work/" /proc/mounts; then
            echo "run.sh: $work still has mounts, so it was not removed" >&2
        else
            rm -rf "$work"
        fi
    fi
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() {
    echo "── $* (${SECONDS} s)"
}

step "making a base image of Debian $suite"
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$suite" "$work/base.tar" "$mirror"
base=$(buildah from scratch)
buildah add --quiet "$base" "$work/base.tar" / >/dev/null
rm "$work/base.tar"

# How this machine reaches its package indexes: certificates, pip's configuration, proxies.
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    buildah copy --quiet "$base" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
    buildah config --env PIP_CERT=/etc/ssl/certs/ca-certificates.crt "$base"
fi
if [ -f /etc/pip.conf ]; then
    buildah copy --quiet "$base" /etc/pip.conf /etc/pip.conf >/dev/null
fi
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST http_proxy https_proxy no_proxy; do
    if [ -n "${!name-}" ]; then
        buildah config --env "$name=${!name}" "$base"
    fi
done
buildah commit --quiet --rm "$base" localhost/rvrun-base >/dev/null

step "building the Dockerfile with EXTRAS=$extras"
buildah build --quiet --network host --pull-never --tag localhost/rvrun \
    --build-arg BASE=localhost/rvrun-base --build-arg EXTRAS="$extras" "$root" >/dev/null

step "running the example in the image"
container=$(buildah from --pull-never localhost/rvrun)
# What the image holds is rvrun alone, as for jobs; the pipeline and its data are brought along.
buildah copy --quiet "$container" "$root/examples" /work/examples >/dev/null
buildah run "$container" -- rvrun --version
buildah run "$container" -- rvrun run local examples/landcover.py --splits 4
buildah run "$container" -- python -c '
import json
scores = json.load(open("out/landcover/eval.json"))
accuracy = scores["accuracy"]
print(f"accuracy {accuracy:.1%} in held-out windows")
assert accuracy > 0.9, accuracy
'
step "done"
