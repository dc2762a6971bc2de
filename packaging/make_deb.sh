#!/bin/sh
# make_deb.sh WHEEL DIRECTORY [PYTHON]: make the Debian package pybuild-image in DIRECTORY, for this processor and this Python.
#
# dh-python owns the names pybuild, /usr/bin/pybuild and its manual page, so the package and its command are called
# pybuild-image. The libraries are in a virtual environment below /usr/lib: Debian 12 lacks isal and has an old urllib3.
set -eu
wheel=$1 out=$2 python=${3:-/usr/bin/python3}
name=pybuild-image home=/usr/lib/pybuild-image
umask 022
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/usr/bin" "$root/usr/share/doc/$name" "$root/DEBIAN" "$out"

# A virtual environment that finds its interpreter by the path that it has on the target.
"$python" -m venv --symlinks "$root$home"
"$root$home/bin/python" -m pip install -q --disable-pip-version-check --no-compile "$wheel"
"$root$home/bin/python" -m pip uninstall -q -y pip setuptools 2>/dev/null || true
version=$("$root$home/bin/pybuild" --version | sed 's/.* //')
minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
"$root$home/bin/python" -m pybuild.installation.files "$root/usr" "$name"
gzip -9n "$root/usr/share/man/man1/"*.1
find "$root$home/bin" -mindepth 1 ! -name 'python*' ! -name pybuild -delete
grep -lr "$root" "$root$home" --include='*' 2>/dev/null | while read -r file; do
    sed -i "s|$root||g" "$file"
done
ln -sf "/usr/bin/python3.$minor" "$root$home/bin/python3"
ln -sf python3 "$root$home/bin/python"
find "$root$home/bin" -name 'python3.*' -delete
rm -rf "$root$home/share" "$root$home/include"
find "$root$home" -name __pycache__ -prune -exec rm -rf {} +
# Byte code that is not compared with the dates of its sources: nobody but root could write it later.
"$python" -m compileall -q -s "$root" --invalidation-mode unchecked-hash "$root$home/lib"
ln -s "../lib/$name/bin/pybuild" "$root/usr/bin/$name"

# The texts of the project, and the licences of the libraries, which their metadata has.
cp "$here/../CHANGELOG.md" "$root/usr/share/doc/$name/changelog"
gzip -9n "$root/usr/share/doc/$name/changelog"
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n'
    printf 'Copyright: pybuild contributors\nLicense: Apache-2.0\n /usr/share/common-licenses/Apache-2.0 has the text.\n\n'
    printf 'Comment: The libraries below %s have their licences in lib/python3.%s/site-packages/*.dist-info.\n' "$home" "$minor"
} >"$root/usr/share/doc/$name/copyright"

arch=$(dpkg --print-architecture)
size=$(du -sk --apparent-size "$root/usr" | cut -f1)
cat >"$root/DEBIAN/control" <<CONTROL
Package: $name
Version: $version
Architecture: $arch
Maintainer: pybuild contributors <pybuild@example.invalid>
Installed-Size: $size
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), python3.$minor, libc6
Recommends: uidmap, ca-certificates
Suggests: git, qemu-user-static
Section: devel
Priority: optional
Description: image builder for Dockerfile-style recipes
 pybuild builds layered OCI images from Dockerfile-style recipes, without a
 daemon and without root. The command is pybuild-image, because dh-python has
 another one that is called pybuild.
CONTROL
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" {} +
dpkg-deb --root-owner-group --build "$root" "$out/${name}_${version}_$arch.deb" >/dev/null
echo "$out/${name}_${version}_$arch.deb"
