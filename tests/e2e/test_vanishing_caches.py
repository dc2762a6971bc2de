"""Caches that go away, stand still or change after their index was read: the image is right all the same."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_hostile_caches import RECIPE, Machines, archive, notes, right, same_archive
from tests.support.fake_registry import fake_registry, redirect, reply
from tests.support.hostile_caches import REPOSITORY
from tests.support.machines import Machine
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pybuild.store.formats.digest import Digest
    from tests.support.fake_registry import Handler, Route, Seen

LAYERS = ("COPY settings", "COPY --from=builder", "RUN wc")  # of the image
registry = pytest.fixture(upload_registry)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> Machines:
    return Machines(tmp_path_factory.mktemp("machines"), store_with_base)


def digest_of(machines: Machines, words: str) -> Digest:
    return machines.cache.layer(words).digest


def stands_still(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.send(b"x")
    handler.until_closed()


ANSWERS: dict[str, Route] = {
    "404": reply(b'{"errors":[{"code":"BLOB_UNKNOWN"}]}', 404),
    "401": reply(status=401),
    "403": reply(status=403),
    "500": reply(status=500),
    "other bytes": reply(b"other bytes"),
    "an end": reply(b"x", length=1000),
    "nothing more": stands_still,
    "an error that paints": reply(b'{"errors":[{"code":"DENIED","message":"\\u001b[2J\\r\\nok"}]}', 403),
}
IMPATIENT = {"PYBUILD_LIMIT_RATE_SECONDS": "1", "PYBUILD_LIMIT_HEADER_SECONDS": "5"}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_layer_that_a_registry_does_not_give(
    machines: Machines, registry: UploadRegistry, tmp_path: Path, answer: str
) -> None:
    for words in LAYERS:
        option = machines.cache.serve(registry)
        path = f"/v2/{REPOSITORY}/blobs/{digest_of(machines, words)}"
        registry.paths = {path: [ANSWERS[answer]]}
        machine = machines.new(f"{answer} {words}")
        machine = Machine(machine.pybuild.with_environment(IMPATIENT), machine.context)
        done = right(machine, machines, option, archive(tmp_path))
        same_archive(tmp_path, machines)
        assert any("a cached step is not used" in text for text in notes(done))
        assert not set(done.err) & set("\x1b\r")
        assert any(words in step for step in machine.ran(done))


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _moved(path: Path) -> None:
    """The blob itself, behind a link that leads out of the directory."""
    target = path.parent.parent.parent.parent / path.name
    path.rename(target)
    path.symlink_to(target)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, Callable[[Path], None]] = {
    "gone": lambda path: path.unlink(),
    "zeros": _zeros,
    "shorter": lambda path: os.truncate(path, 5),
    "sparse": lambda path: os.truncate(path, 1 << 40),
    "a fifo": _fifo,
    "a link without an end": _endless,
    "a link to outside": _moved,
    "a directory": _directory,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_a_directory_does_not_have(machines: Machines, tmp_path: Path, change: str) -> None:
    for words in LAYERS:
        option = machines.cache.write(tmp_path / "cache")
        CHANGES[change](tmp_path / "cache" / "blobs" / "sha256" / digest_of(machines, words).hex)
        machine = machines.new(f"{change} {words}")
        done = right(machine, machines, option, archive(tmp_path))
        same_archive(tmp_path, machines)
        assert any(words in step for step in machine.ran(done))


def test_a_directory_that_is_gone_when_the_layers_are_needed(machines: Machines, tmp_path: Path) -> None:
    machine = machines.new("gone")
    right(machine, machines, machines.cache.write(tmp_path / "cache"), "-t", "app", "--require-cached")
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    assert "not in the store" in machine.pybuild.refused("export", "app", "-o", f"type=oci,dest={tmp_path}/x.tar")
    right(machine, machines, archive(tmp_path))
    same_archive(tmp_path, machines)


def test_a_directory_of_another_user_that_all_can_write(machines: Machines, tmp_path: Path) -> None:
    option = machines.cache.write(tmp_path / "cache")
    for path in (tmp_path / "cache", *(tmp_path / "cache").rglob("*")):
        os.chown(path, 65534, 65534)
        path.chmod(0o777)
    right(machines.new("other user"), machines, option, "--require-cached")


def _is_request(registry: UploadRegistry, number: int, _: Seen) -> bool:
    return len(registry.seen) == number


def test_the_connection_dies_at_any_request(machines: Machines, registry: UploadRegistry, tmp_path: Path) -> None:
    """Of a build that reads the cache and needs all layers."""
    option = machines.cache.serve(registry)
    for died in count(1):
        registry.seen.clear()
        registry.lose = partial(_is_request, registry, died)
        machine = machines.new(f"died {died}")
        done = right(machine, machines, option, archive(tmp_path))
        same_archive(tmp_path, machines)
        if len(registry.seen) < died:
            break
        assert notes(done), died
    assert notes(done) == []
    assert died > 5  # the manifest, the config, three layers


def _wait_at(registry: UploadRegistry, number: int, reached: threading.Event, _: Seen) -> Route | None:
    """At this request, say so and answer nothing."""
    if len(registry.seen) != number:
        return None

    def stop(handler: Handler) -> None:
        reached.set()
        handler.until_closed()

    return stop


def test_an_interrupt_at_any_request(machines: Machines, registry: UploadRegistry, tmp_path: Path) -> None:
    """Of a build that reads a cache, needs its layers and writes another one."""
    option = machines.cache.serve(registry)
    manifests = registry.manifests[REPOSITORY]
    machine = machines.new("interrupted")
    command = ["--network=none", option, f"--cache-to=type=registry,ref={registry.host}/{REPOSITORY}:new,mode=max", archive(tmp_path)]
    for at in count(1):
        registry.seen.clear()
        manifests.pop("new", None)
        reached = threading.Event()
        registry.intercept = partial(_wait_at, registry, at, reached)
        machine.pybuild("gc", "--all")
        process = subprocess.Popen(
            [*machine.pybuild.command, *command, machine.context], env=machine.pybuild.env(), stderr=subprocess.PIPE
        )
        ended = threading.Thread(target=lambda process=process, reached=reached: (process.wait(), reached.set()))
        ended.start()
        assert reached.wait(120)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        ended.join()
        registry.intercept = lambda _: None
        assert b"Traceback" not in err, err
        machine.pybuild.assert_whole()
        if process.returncode == 0:
            break
        assert process.returncode == 130, (at, err)
    assert at > 5
    right(machine, machines, f"--cache-from={registry.host}/{REPOSITORY}:new", "--require-cached")


@pytest.mark.parametrize("kind", ["layers", "config", "manifest", "unreachable"])
def test_of_two_caches_the_second_serves_if_the_first_is_broken(
    machines: Machines, registry: UploadRegistry, tmp_path: Path, kind: str
) -> None:
    first, second = machines.cache.serve(registry), machines.cache.write(tmp_path / "cache")
    image = machines.cache.image()
    lost = {
        "layers": [f"blobs/{digest}" for digest in machines.cache.blobs],
        "config": [f"blobs/{image.config_digest}"],
        "manifest": ["manifests/cache"],
        "unreachable": [],
    }[kind]
    registry.paths = {f"/v2/{REPOSITORY}/{path}": [reply(status=404 if kind == "layers" else 500)] for path in lost}
    if kind == "unreachable":
        first = "--cache-from=127.0.0.1:1/team/app:cache"
    done = right(machines.new(f"two {kind}"), machines, first, second, "--require-cached", archive(tmp_path))
    same_archive(tmp_path, machines)
    assert kind == "layers" or notes(done)


@pytest.mark.parametrize("kind", ["layers", "config", "manifest"])
def test_require_cached_says_why_the_cache_does_not_serve(
    machines: Machines, registry: UploadRegistry, tmp_path: Path, kind: str
) -> None:
    option, image = machines.cache.serve(registry), machines.cache.image()
    path = {
        "layers": f"blobs/{digest_of(machines, 'COPY --from=builder')}",
        "config": f"blobs/{image.config_digest}",
        "manifest": "manifests/cache",
    }[kind]
    registry.paths = {f"/v2/{REPOSITORY}/{path}": [reply(status=500)]}
    machine = machines.new(f"required {kind}")
    message = machine.pybuild.refused("--network=none", option, "--require-cached", archive(tmp_path), machine.context, status=3)
    assert "status 500" in message and "not cached" in message
    assert not (tmp_path / "out.tar").exists()


def test_credentials_do_not_follow_a_redirect(machines: Machines, registry: UploadRegistry, tmp_path: Path) -> None:
    """The registry of the cache sends everything elsewhere: the manifest, the config and the layers."""
    option, image = machines.cache.serve(registry), machines.cache.image()
    machine = machines.new("redirected")
    login = {"auths": {registry.host: {"auth": base64.b64encode(b"user:password").decode()}}}
    (machine.context.parent / ".docker").mkdir()
    (machine.context.parent / ".docker" / "config.json").write_text(json.dumps(login))
    challenge = reply(status=401, headers={"WWW-Authenticate": 'Basic realm="here"'})

    def needs_login(seen: Seen) -> Route | None:
        return None if seen.authorization else challenge

    registry.intercept = needs_login
    with fake_registry() as other:
        contents = {**machines.cache.blobs, image.config_digest: image.config}
        for digest, data in contents.items():
            path = f"/v2/{REPOSITORY}/blobs/{digest}"
            registry.paths[path] = [challenge, redirect(f"{other.url}/{digest.hex}")]
            other.on(f"/{digest.hex}", reply(data))
        done = right(machine, machines, option, "--require-cached", archive(tmp_path))
        assert notes(done) == []
        assert len(other.seen) >= 4
        assert not [seen for seen in other.seen if seen.authorization or "password" in str(seen)]
    assert any(seen.authorization for seen in registry.seen)


@pytest.mark.parametrize("place", ["registry", "directory"])
def test_a_cache_with_a_lost_layer_gets_it_again(
    machines: Machines, registry: UploadRegistry, tmp_path: Path, place: str
) -> None:
    """The build that misses the layer makes it again, and writes it: the one after that misses nothing."""
    words = "COPY --from=builder"
    digest = digest_of(machines, words)
    if place == "registry":
        option = machines.cache.serve(registry)
        del registry.blobs[REPOSITORY][str(digest)]
    else:
        option = machines.cache.write(tmp_path / "cache")
        path = tmp_path / "cache" / "blobs" / "sha256" / digest.hex
        path.write_bytes(bytes(path.stat().st_size))
    write = option.replace("--cache-from", "--cache-to").replace("src=", "dest=") + ",mode=max"
    first, second = machines.new(f"lost {place}"), machines.new(f"found {place}")
    assert any("is not used" in text for text in notes(right(first, machines, option, write, archive(tmp_path))))
    assert notes(right(second, machines, option, "--require-cached", archive(tmp_path))) == []


def test_a_lie_about_a_layer_does_not_stay_in_the_cache(machines: Machines, tmp_path: Path) -> None:
    cache = machines.cache.copy()
    cache.give_layer("COPY --from=builder", b"not gzip")
    option = cache.write(tmp_path / "cache")
    write = option.replace("--cache-from", "--cache-to").replace("src=", "dest=") + ",mode=max"
    first, second = machines.new("told a lie"), machines.new("told the truth")
    assert notes(right(first, machines, option, write, archive(tmp_path)))
    assert notes(right(second, machines, option, "--require-cached", archive(tmp_path))) == []


@pytest.fixture
def target() -> Iterator[UploadRegistry]:
    yield from upload_registry()


@pytest.mark.parametrize("answer", ["404", "500", "other bytes", "an end"])
def test_a_layer_is_gone_when_a_cached_image_is_pushed(
    machines: Machines, registry: UploadRegistry, target: UploadRegistry, answer: str
) -> None:
    option = machines.cache.serve(registry)
    machine = machines.new(f"pushed {answer}")
    registry.paths = {f"/v2/{REPOSITORY}/blobs/{digest_of(machines, LAYERS[1])}": [ANSWERS[answer]]}
    done = right(machine, machines, option, "-t", f"{target.host}/team/image:1", "--push")
    assert any("a cached step is not used" in text for text in notes(done))
    manifest = json.loads(target.manifests["team/image"]["1"])
    for blob in (manifest["config"], *manifest["layers"]):
        assert blob["digest"] in target.blobs["team/image"]


def test_a_cached_image_is_pushed_from_a_directory(
    machines: Machines, target: UploadRegistry, tmp_path: Path
) -> None:
    machine = machines.new("pushed from a directory")
    option = machines.cache.write(tmp_path / "cache")
    right(machine, machines, option, "-t", f"{target.host}/team/image:1", "--push", "--require-cached")
    assert "1" in target.manifests["team/image"]


@pytest.mark.parametrize("place", ["registry", "directory"])
def test_two_writers_at_once(machines: Machines, registry: UploadRegistry, tmp_path: Path, place: str) -> None:
    """Two processes, with other results of one recipe. Whoever is last, the name means a whole cache."""
    both = threading.Barrier(2, timeout=120)

    def meet(seen: Seen) -> Route | None:
        """Let none write the name before the other one is there."""
        if seen.method == "PUT" and seen.path.endswith("/manifests/cache"):
            both.wait()
        return None

    registry.intercept = meet
    where = f"type=registry,ref={registry.host}/{REPOSITORY}:cache"
    option = where if place == "registry" else f"type=local,dest={tmp_path}/cache"
    writers = [machines.new(f"writer {place} {number}", RECIPE + f"RUN echo {number} > /n\n") for number in range(2)]
    processes = [
        subprocess.Popen(
            [*one.pybuild.command, "--network=none", f"--cache-to={option},mode=max,ignore-error=false", one.context],
            env=one.pybuild.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for one in writers
    ]  # fmt: skip
    ended = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    registry.intercept = lambda _: None
    reader = machines.new(f"reader {place}")
    done = right(reader, machines, "--cache-from=" + option.replace("dest=", "src="), "--require-cached", archive(tmp_path))
    assert notes(done) == []
