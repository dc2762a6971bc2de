"""What is read from the log of a proxy: kinds of requests, bytes of layers, chains."""

from __future__ import annotations

import pytest

from bench.exchanges import Exchange, Kind, Moved, kinds, lines, longest_chain, summary

_CONFIG, _LAYER = "sha256:" + "c" * 64, "sha256:" + "1" * 64
_REPOSITORY = "/v2/bench/fresh"


def _exchange(method: str, target: str, start: float = 0, end: float = 1, sent: int = 100, received: int = 200) -> Exchange:
    return Exchange(method, target, 200 if method else 400, start, end, sent, received)


@pytest.mark.parametrize(
    ("method", "target", "kind", "digest"),
    [
        ("", "", Kind.PROBE, ""),
        ("GET", "/v2/", Kind.PROBE, ""),
        ("GET", f"{_REPOSITORY}/manifests/cache", Kind.MANIFEST, ""),
        ("HEAD", f"{_REPOSITORY}/manifests/2", Kind.MANIFEST, ""),
        ("PUT", f"{_REPOSITORY}/manifests/2", Kind.PUT_MANIFEST, ""),
        ("GET", f"{_REPOSITORY}/blobs/{_CONFIG}", Kind.CONFIG, _CONFIG),
        ("GET", f"{_REPOSITORY}/blobs/{_LAYER}", Kind.LAYER, _LAYER),
        ("HEAD", f"{_REPOSITORY}/blobs/{_LAYER}", Kind.QUESTION, _LAYER),
        ("POST", f"{_REPOSITORY}/blobs/uploads/?mount={_LAYER}&from=bench%2Fbase", Kind.MOUNT, _LAYER),
        ("POST", f"{_REPOSITORY}/blobs/uploads/?digest={_LAYER}", Kind.UPLOAD_LAYER, _LAYER),
        ("POST", f"{_REPOSITORY}/blobs/uploads/?digest={_CONFIG}", Kind.UPLOAD_CONFIG, _CONFIG),
        ("POST", f"{_REPOSITORY}/blobs/uploads/", Kind.BEGIN, ""),
        ("PATCH", f"{_REPOSITORY}/blobs/uploads/some-id?_state=x", Kind.UPLOAD_LAYER, ""),
        ("GET", f"{_REPOSITORY}/tags/list", Kind.OTHER, ""),
    ],
)
def test_kinds_of_requests(method: str, target: str, kind: Kind, digest: str) -> None:
    assert kinds([_exchange(method, target)], {_CONFIG}) == [(kind, digest)]


def test_the_parts_of_an_upload_have_the_digest_of_its_end() -> None:
    uploads = f"{_REPOSITORY}/blobs/uploads"
    exchanges = [
        _exchange("PATCH", f"{uploads}/one?_state=a"),
        _exchange("PATCH", f"{uploads}/other?_state=a"),
        _exchange("PUT", f"{uploads}/other?_state=b&digest={_LAYER}"),
        _exchange("PUT", f"{uploads}/one?_state=b&digest={_CONFIG.replace(':', '%3A')}"),
    ]
    config, layer = (Kind.UPLOAD_CONFIG, _CONFIG), (Kind.UPLOAD_LAYER, _LAYER)
    assert kinds(exchanges, {_CONFIG}) == [config, layer, layer, config]


def test_a_layer_that_is_read_twice_counts_once_and_all_its_bytes() -> None:
    layer = f"{_REPOSITORY}/blobs/{_LAYER}"
    exchanges = [
        _exchange("GET", f"{_REPOSITORY}/blobs/{_CONFIG}", 0, 1),
        _exchange("GET", layer, 1, 2, 10, 5000),
        _exchange("GET", layer, 1, 2, 10, 90),
        _exchange("HEAD", layer, 2, 3),
    ]
    assert summary(exchanges, {_CONFIG}) == Moved(5710, 4, 3, 1, 5110)
    assert summary(exchanges[:1], {_CONFIG}) == Moved(300, 1, 1, 0, 0)


@pytest.mark.parametrize(
    ("times", "length"),
    [
        ([], 0),
        ([(0, 1), (1, 2), (2, 3)], 3),  # each waits for the one before
        ([(0, 5), (1, 4), (2, 3)], 1),  # side by side
        ([(0, 10), (0, 1), (2, 3), (4, 5), (10, 11)], 4),  # three short ones beside a long one, and one that waits for it
        ([(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5)], 2),  # two connections
    ],
)
def test_the_longest_chain(times: list[tuple[float, float]], length: int) -> None:
    exchanges = [_exchange("GET", "/v2/", start, end) for start, end in times]
    assert longest_chain(exchanges) == length
    assert longest_chain(reversed(exchanges)) == length


def test_the_log_for_readers() -> None:
    exchanges = [
        _exchange("PUT", f"{_REPOSITORY}/blobs/uploads/id?_state=long&digest={_LAYER}", 7.25, 7.5),
        _exchange("", "", 7, 7.25),
    ]
    assert lines(exchanges, set()) == [
        "    0.0   250.0       300 probe         400",
        f"  250.0   500.0       300 upload layer  200 PUT {_REPOSITORY}/blobs/uploads/id {_LAYER}",
    ]
