#!/bin/sh
# Build pybuild's own image with the pybuild of this checkout: make.sh PYTHON DIRECTORY writes DIRECTORY/pybuild.tar.
#
# PYBUILD_IMAGE_PLATFORMS=linux/amd64,linux/arm64 builds one for both, with an emulator for the other processor. The base is
# debian:bookworm-slim, or PYBUILD_IMAGE_BASE; where neither the store nor a registry has it, and for PYBUILD_IMAGE_BASE=mmdebstrap,
# mmdebstrap makes one for this machine. PYBUILD_IMAGE_ROOT is the store.
set -eu
python=$1 work=$2
here=$(dirname "$0")
mkdir -p "$work"
rm -rf "$work/wheels"
"$python" -m pip wheel -q --disable-pip-version-check --wheel-dir "$work/wheels" "$here/../.."
platforms=${PYBUILD_IMAGE_PLATFORMS:-}
for processor in ${platforms:+x86_64 aarch64}; do # the Python of the image: Debian 12's
    "$python" -m pip download -q --disable-pip-version-check --only-binary=:all: --python-version 3.11 --implementation cp \
        --platform "manylinux_2_17_$processor" --platform "manylinux_2_28_$processor" --platform "manylinux2014_$processor" \
        --dest "$work/wheels" "$work"/wheels/pybuild_oci-*.whl
done
pybuild() { "$python" -m pybuild --root "${PYBUILD_IMAGE_ROOT:-$work/store}" "$@"; }
base=${PYBUILD_IMAGE_BASE:-debian:bookworm-slim}
if [ "$base" = mmdebstrap ] || ! { pybuild inspect "$base" || pybuild pull "$base"; } >/dev/null 2>&1; then
    case $platforms in *,*)
        echo "make.sh: for several platforms the base has to be in the store or in a registry: PYBUILD_IMAGE_BASE" >&2
        exit 1 ;;
    esac
    base=localhost/debian:bookworm
    if [ ! -e "$work/debian.tar" ]; then
        mmdebstrap --quiet --variant=minbase bookworm "$work/debian.part.tar"
        mv "$work/debian.part.tar" "$work/debian.tar"
    fi
    pybuild import "$work/debian.tar" "$base" >/dev/null
fi
pybuild -f "$here/Buildfile" --build-arg "BASE=$base" --build-context "wheels=$work/wheels" ${platforms:+"--platform=$platforms"} \
    -t pybuild:latest -o "type=oci,dest=$work/pybuild.tar" "$here"
