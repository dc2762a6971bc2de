#!/bin/sh
# Install the tools that the workloads and their floors need, in addition to those of the tests.
set -eu
"$(dirname "$0")"/../fixtures/install_tools.sh
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need igzip isal
need zstd zstd
need buildah buildah
if [ -n "$missing" ]; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
