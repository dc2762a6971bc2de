"""Run a command in a container of runc, whose root is that of this machine with an overlay above it.

    in_container.py SURROUNDINGS VOLUME COMMAND...

SURROUNDINGS are the fields of container_config.Surroundings as JSON. VOLUME is a directory of this machine that the container
can write to; everything else that it writes is gone afterwards. The network is this machine's.

The mounts are made in a mount namespace of this process: they end with it, however it ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from fixtures.measured.sitecustomize import recording
from tests.support.as_user import closed_above
from tests.support.container_config import Surroundings, runc_config

_CLONE_NEWNS = 0x20000


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def needed() -> list[Path]:
    """The checkout and the interpreter, which the container has at the same paths, and where `make coverage` notes lines."""
    checkout = Path(__file__).resolve().parent.parent.parent
    measured = [Path(os.environ["PYBUILD_LINES"])] if "PYBUILD_LINES" in os.environ else []
    return list(dict.fromkeys([checkout, Path(sys.base_prefix).resolve(), Path(sys.prefix), *measured]))


def make_root(place: Path) -> Path:
    """The root of the container: an overlay, as engines make it. All users can reach what is needed in it."""
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    root = place / "root"
    for name in ("root", "upper", "work"):
        (place / name).mkdir(mode=0o755)
    mount("-t", "overlay", "-o", f"lowerdir=/,upperdir={place}/upper,workdir={place}/work", "overlay", root)
    for path in needed():
        place_in(root, path)
    return root


def place_in(root: Path, path: Path) -> Path:
    """The directory of a path in a root, made if it is not there; all users can reach it."""
    inside = root / str(path)[1:]
    inside.mkdir(parents=True, exist_ok=True)
    while (closed := closed_above(inside)) is not None and root in closed.parents:
        closed.chmod(0o755)
    return inside


def make_own_root(place: Path, surroundings: Surroundings) -> Path:
    """The root of pybuild's own image: an overlay of its directory, or of one in which /pybuild is made of this machine."""
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    for name in ("root", "upper", "work", "image", "home", "home-work"):
        (place / name).mkdir(mode=0o755)
    root, image = place / "root", surroundings.home or str(place / "image")
    if not surroundings.home:
        make_image(place / "image")
    mount("-t", "overlay", "-o", f"lowerdir={image},upperdir={place}/upper,workdir={place}/work", "overlay", root)
    if not surroundings.home:
        home = root / "pybuild"
        options = f"lowerdir=/,upperdir={place}/home,workdir={place}/home-work"
        mount("-t", "overlay", "-o", options, "overlay", home)
        fill_home(home)
    return root


def make_image(image: Path) -> None:
    """What the root of the image holds besides /pybuild."""
    for name in ("bin", "dev", "etc", "proc", "pybuild", "run", "sys", "tmp", "var", "workspace"):
        (image / name).mkdir()
    shutil.copy(shutil.which("busybox") or "", image / "bin" / "busybox")
    for name in ("sh", "cat", "ls", "sleep", "kill"):
        (image / "bin" / name).symlink_to("busybox")
    (image / "var" / "run").symlink_to("../run")


def fill_home(home: Path) -> None:
    """Make the root of this machine what images/pybuild makes of a Debian."""
    checkout = Path(__file__).resolve().parent.parent.parent
    for path in needed():
        mount("--rbind", path, place_in(home, path))
    (home / "pybuild").symlink_to(".")
    packages = home / "opt" / "pybuild"
    packages.mkdir(parents=True)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        (packages / path.name).symlink_to(f"/pybuild{path}")
    (packages / "pybuild").symlink_to(f"/pybuild{checkout}/pybuild")
    programs = home / "usr" / "bin"
    (programs / "python3").unlink(missing_ok=True)
    python = f"/pybuild{Path(sys.executable).resolve()}"
    if "PYBUILD_LINES" in os.environ:
        write_measured_python(programs / "python3", python, checkout)
    else:
        (programs / "python3").symlink_to(python)
    source = checkout / "images" / "pybuild" / "enter.c"
    multiarch = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    places = (sysconfig.get_config_var("LIBDIR"), f"/usr/lib/{multiarch}", "/usr/lib")
    libraries = ":".join(f"/pybuild{place}" for place in places)
    flags = ["-static", "-O1", "-Wall", "-Wextra", "-Werror", f'-DLIBRARIES="{libraries}"']
    subprocess.run(["gcc", *flags, "-o", programs / "pybuild", source], check=True)
    (programs / "pybuild-python").symlink_to("pybuild")
    for name in ("store", "run", "tmp"):
        (home / name).mkdir(exist_ok=True)


def write_measured_python(path: Path, python: str, checkout: Path) -> None:
    """Isolated interpreters, which know no variables, note their lines too: fixtures/measured/sitecustomize.py."""
    start = recording(f"/pybuild{checkout}/fixtures/measured", f"/pybuild{os.environ['PYBUILD_LINES']}")
    path.write_text(
        "#!/pybuild/bin/sh\n"
        f'start="{start}"\n'
        "case $1 in\n"
        f'-SIc) code=$2; shift 2; exec {python} -SIc "$start$code" "$@" ;;\n'
        f'-SI) code=$3; shift 3; exec {python} -SI -c "$start$code" "$@" ;;\n'
        f'*) exec {python} "$@" ;;\n'
        "esac\n"
    )
    path.chmod(0o755)


def mount_store(volume: Path) -> None:
    """Make the store in the volume one that is on an overlay, and the same in each container of this volume."""
    place, owner = volume / "overlay", volume.stat()
    for path in (place, place / "lower", place / "upper", place / "work", volume / "store"):
        if not path.exists():
            path.mkdir()
            os.chown(path, owner.st_uid, owner.st_gid)
    options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
    mount("-t", "overlay", "-o", options, "overlay", volume / "store")


def main() -> int:
    fields, volume, *command = sys.argv[1:]
    found = json.loads(fields)
    profile = found.pop("profile")
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    surroundings = Surroundings(profile=None if profile is None else Path(profile), **found)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    mount("--make-rprivate", "/")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        os.chmod(directory, 0o755)  # root of a user namespace enters it as somebody else
        place, bundle = Path(directory, "place"), Path(directory, "bundle")
        for path in (place, bundle):
            path.mkdir()
        own = surroundings.home is not None
        root = make_own_root(place, surroundings) if own else make_root(place)
        (root / volume[1:]).mkdir(parents=True, exist_ok=True)
        if surroundings.overlay_store:
            mount_store(Path(volume))
        for extra in surroundings.tmpfs:
            (root / extra[1:]).mkdir(parents=True, exist_ok=True)
        # runc binds the volumes after it has mounted /tmp, where the checkout can be.
        config = runc_config(surroundings, str(root), command, os.environ, [*([] if own else map(str, needed())), volume])
        (bundle / "config.json").write_text(json.dumps(config))
        name = f"pybuild-test-{os.getpid()}-{os.urandom(4).hex()}"
        done = subprocess.run(
            ["runc", "--root", f"{directory}/state", "run", "--bundle", str(bundle), name], check=False
        )
        subprocess.run(["umount", "--lazy", "--recursive", str(place)], check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
