"""Indexes in the store: what a name stands for, and what gc, fsck and rmi make of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.maintenance import fsck
from pybuild.store.maintenance.repair import repair
from pybuild.store.maintenance.trees import TreesHere
from pybuild.store.objects.indexes import StoredIndex
from pybuild.store.store import Store
from tests.support.stored import add_image, add_layer, collect_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pybuild.store.objects.images import StoredImage

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
APP = Reference.parse("app:1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "s")) as opened:
        yield opened


def image(store: Store, platform: Platform) -> StoredImage:
    return store.images.get(add_image(store, add_layer(store), platform=platform))


def index(store: Store, *images: StoredImage) -> StoredIndex:
    return store.indexes.add(store.indexes.of(images), store.ingest.new_path())


def reopened(store: Store) -> Store:
    """The store for another process: gc waits for the first one."""
    store.close()
    return Store(store.root)


def test_a_name_stands_for_all_platforms_of_its_index(store: Store) -> None:
    made = index(store, arm := image(store, ARM), amd := image(store, AMD))
    store.indexes.tag([APP], made, 1)
    assert store.indexes.find("app:1")[0] == made
    assert store.indexes.find("app:1", ARM)[0] == arm
    assert store.images.find("app:1", AMD) == amd
    assert store.images.find("app:1") == made.preferred
    assert store.indexes.find(made.digest.hex[:12]) == (made, None)
    assert not fsck.check(store).damage


def test_an_index_takes_its_name_from_everything_else(store: Store) -> None:
    store.images.tag([APP], image(store, Platform("linux", "riscv64")), 1)
    store.indexes.tag([APP], index(store, image(store, AMD), image(store, ARM)), 2)
    assert {tag.platform for tag in store.images.tags_of(APP)} == {str(AMD), str(ARM)}


def test_an_image_that_gets_the_name_later_is_what_it_means(store: Store) -> None:
    made = index(store, amd := image(store, AMD), arm := image(store, ARM))
    store.indexes.tag([APP], made, 1)
    store.images.tag([APP], amd, 2)
    assert store.indexes.find("app:1")[0] == amd
    assert store.indexes.find("app:1", ARM)[0] == arm
    store.indexes.tag([APP], made, 3)
    assert store.indexes.find("app:1")[0] == made


def test_all_images_of_a_name_make_an_index(store: Store) -> None:
    store.images.tag([APP], amd := image(store, AMD), 1)
    assert store.indexes.all_images("app:1")[0] == amd
    store.images.tag([APP], arm := image(store, ARM), 2)
    found, images, name = store.indexes.all_images("app:1")
    assert found == store.indexes.of([amd, arm])
    assert (images, name) == ((amd, arm), APP)


@pytest.mark.parametrize("named", [True, False])
def test_gc_keeps_an_index_as_long_as_its_images(store: Store, named: bool) -> None:
    made = index(store, image(store, AMD), image(store, ARM))
    store.images.tag([APP], made.images[0], 1)
    store.indexes.tag([APP], made, 1)
    if not named:
        store.images.untag([APP], made.images[0].manifest_digest, 2, all_platforms=True)
    for _ in range(2):
        collect_in(store)
        store = reopened(store)
    assert store.blobs.has(made.digest) is named
    assert not fsck.check(store).damage
    store.close()


def test_an_index_without_one_of_its_images_is_gone_and_the_name_keeps_the_others(store: Store) -> None:
    made = index(store, amd := image(store, AMD), arm := image(store, ARM))
    store.indexes.tag([APP], made, 1)
    assert store.images.untag([APP], amd.manifest_digest, 2) == [amd.manifest_digest]
    assert store.indexes.find("app:1")[0] == arm
    with pytest.raises(NotFound):
        store.indexes.get(made.digest)
    assert not fsck.check(store).damage


def test_a_damaged_index_is_found_and_its_images_stay(store: Store) -> None:
    made = index(store, image(store, AMD), image(store, ARM))
    store.indexes.tag([APP], made, 1)
    path = store.blobs.path(made.digest)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.write(b"x")
    assert any(str(made.digest) in line for line in fsck.check(store).damage)
    lines = list(repair(store, TreesHere()))
    assert any(
        line.startswith(f"index {made.digest}: dropped; docker.io/library/app:1 keeps its images") for line in lines
    )
    assert not fsck.check(store).damage
    assert len(store.images.tags_of(APP)) == 2


def test_two_images_for_one_platform_are_no_index(store: Store) -> None:
    with pytest.raises(InvalidImage, match="two different images are for linux/amd64"):
        store.indexes.of([image(store, AMD), image(store, AMD)])


def test_an_index_of_images_that_are_not_here_is_refused(store: Store) -> None:
    made = store.indexes.of([image(store, AMD)])
    (entry,) = made.manifests
    missing = type(made)((type(entry)(entry.media_type, Digest.of(b"x"), 1),))
    with pytest.raises(NotFound):
        store.indexes.add(missing, store.ingest.new_path())
