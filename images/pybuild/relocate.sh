#!/bin/sh
# Make the Debian root below $1/pybuild work at that path, and the few files around it. $2 is the program that starts pybuild.
set -eu
image=$1 enter=$2
cd "$image/pybuild"

# Programs name the loader and the libraries of /pybuild: another loader, or none, can be at the usual place. The old form of
# the path (DT_RPATH) counts for the libraries of libraries and for modules of Python, too.
machine=$(gcc -print-multiarch)
loader=/pybuild/usr/lib/$machine/$(basename "$(patchelf --print-interpreter usr/bin/env)")
find usr -xdev -type f -perm -100 ! -name '*.so*' | while read -r file; do
    if [ "$(head -c 4 "$file" | od -An -c | tr -d ' ')" = '177ELF' ] && patchelf --print-interpreter "$file" >/dev/null 2>&1; then
        patchelf --set-interpreter "$loader" --force-rpath \
            --set-rpath "/pybuild/usr/lib/$machine:/pybuild/usr/lib" "$file"
    fi
done
find . -xdev -type l -lname '/*' | while read -r link; do
    ln -sfn "/pybuild$(readlink "$link")" "$link"
done
ln -s . pybuild # a path that begins with /pybuild is the same inside
rm -rf etc/resolv.conf etc/hosts etc/hostname
mkdir -p store run tmp
chmod 700 store
mv -f usr/bin/git usr/lib/git-core/git
for name in pybuild pybuild-python git; do
    rm -f "usr/bin/$name"
    ln "$enter" "usr/bin/$name" 2>/dev/null || cp "$enter" "usr/bin/$name"
done

# The container's own root before the first build: a shell for jobs, and the places where engines mount.
cd "$image"
mkdir -p bin dev etc proc root run sys tmp usr/bin var workspace
chmod 700 root
chmod 1777 tmp
ln -s ../run var/run # what a pod mounts below /var/run lands in /run, which images leave alone
for name in sh bash cat ls mkdir rm cp mv env sleep test true false echo; do
    ln -s "../pybuild/bin/$name" "bin/$name"
done
ln -s ../../pybuild/bin/env usr/bin/env
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' >etc/group
