"""The image that a cache is: always the same bytes, and never larger than registries take."""

from __future__ import annotations

import json

import pytest

from pybuild.store.errors import InvalidImage
from pybuild.store.formats import cache_image as module
from pybuild.store.formats.cache_image import cache_image, carried_index, fitting_image, is_only_cache
from pybuild.store.formats.cache_index import CacheIndex
from pybuild.store.formats.oci_config import CACHE_MEMBER
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.formats.platform import Platform
from pybuild.values import limits
from tests.store.formats.test_cache_index import a_record

ARM = Platform("linux", "arm", "v7")


def test_the_image_is_ordinary_and_a_function_of_the_index() -> None:
    lower = a_record("lower")
    index = CacheIndex((lower, a_record("upper", lower)))
    image = cache_image(index, ARM)
    assert cache_image(index, ARM) == image
    manifest, config = json.loads(image.manifest), json.loads(image.config)
    assert config.keys() == {"architecture", "config", "os", "rootfs", "variant", CACHE_MEMBER}
    assert (config["architecture"], config["os"], config["variant"]) == ("arm", "linux", "v7")
    assert manifest.keys() == {"schemaVersion", "mediaType", "config", "layers", "annotations"}
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert manifest["config"]["digest"] == str(image.config_digest)
    read = Manifest.from_bytes(image.manifest)
    assert is_only_cache(read)
    assert carried_index(read, image.config) == index


def test_what_registries_do_not_take_is_left_out_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    index = CacheIndex(tuple(a_record(f"r{number}", used=number) for number in range(100)))
    whole = cache_image(index, ARM)
    assert fitting_image(index, ARM) == whole
    monkeypatch.setattr(module, "_MOST_BYTES", len(whole.manifest) // 2)
    image = fitting_image(index, ARM)
    assert len(image.manifest) <= len(whole.manifest) // 2
    kept = len(image.index.records)
    assert 30 < kept < 50 and image.index.records == index.records[-kept:]


def test_what_cannot_be_read_back_is_left_out() -> None:
    index = CacheIndex(tuple(a_record(f"r{number}", used=number) for number in range(100)))
    with limits.applied({"json-items": 1000}):
        image = fitting_image(index, ARM)
        assert 0 < len(image.index.records) < 100
        assert carried_index(Manifest.from_bytes(image.manifest), image.config) == image.index


def test_limits_below_an_empty_cache_are_an_error_and_not_a_loop() -> None:
    with limits.applied({"config-bytes": 10}), pytest.raises(InvalidImage):
        fitting_image(CacheIndex((a_record("one"),)), ARM)
