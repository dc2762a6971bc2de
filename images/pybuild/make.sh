#!/bin/sh
# Build pybuild's own image with the pybuild of this checkout: make.sh PYTHON DIRECTORY writes DIRECTORY/pybuild.tar.
#
# The base is debian:bookworm-slim; where no registry has it, or with PYBUILD_IMAGE_BASE=mmdebstrap, mmdebstrap makes one.
set -eu
python=$1 work=$2
here=$(dirname "$0")
mkdir -p "$work"
rm -rf "$work/wheels"
"$python" -m pip wheel -q --disable-pip-version-check --wheel-dir "$work/wheels" "$here/../.."
pybuild() { "$python" -m pybuild --root "${PYBUILD_IMAGE_ROOT:-$work/store}" "$@"; }
base=${PYBUILD_IMAGE_BASE:-debian:bookworm-slim}
if [ "$base" = mmdebstrap ] || ! pybuild pull "$base" >/dev/null 2>&1; then
    base=localhost/debian:bookworm
    if [ ! -e "$work/debian.tar" ]; then
        mmdebstrap --quiet --variant=minbase bookworm "$work/debian.part.tar"
        mv "$work/debian.part.tar" "$work/debian.tar"
    fi
    pybuild import "$work/debian.tar" "$base" >/dev/null
fi
pybuild -f "$here/Buildfile" --build-arg "BASE=$base" --build-context "wheels=$work/wheels" --pull=never \
    -t pybuild:latest -o "type=oci,dest=$work/pybuild.tar" "$here"
