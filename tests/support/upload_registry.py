"""A registry on the loopback interface that takes images, as well or as badly as a test says."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pybuild.store.formats.media_types import MediaType
from tests.support.fake_registry import FakeRegistry, reply, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.fake_registry import Handler, Route, Seen


class UploadRegistry(FakeRegistry):
    """Stores what is pushed. The attributes are its ways; a test sets them before or in the middle of a push."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.blobs: dict[str, dict[str, bytes]] = {}  # repository -> digest -> content
        self.manifests: dict[str, dict[str, bytes]] = {}  # repository -> tag -> manifest
        self.uploads: dict[str, bytearray] = {}  # id -> what has arrived
        self.mounts = "accepted"  # or "declined", "refused" (403), "claimed" (201, but there is nothing)
        self.chunk_minimum = 0
        self.takes_chunks = True
        self.largest_request = 1 << 40
        self.keeps_partial = True  # what arrived before a break, and the upload itself
        self.reports_range: Callable[[int], str | None] = lambda size: f"0-{max(size - 1, 0)}"
        self.location: Callable[[str], str | None] = lambda path: path
        self.digest_header: Callable[[str], str | None] = lambda digest: digest
        self.chunk_status = 202
        self.begin_status = 202
        self.cut_body_after: list[int] = []  # bytes of the body of the next requests with one, before the connection breaks
        self.lose: Callable[[Seen], bool] = lambda _: False  # whether to break the connection before a request counts
        self.lose_answer: Callable[[Seen], bool] = lambda _: False  # … after it has been carried out
        self.intercept: Callable[[Seen], Route | None] = lambda _: None  # another answer to a request
        self._ids = itertools.count()

    def read_body(self, handler: Handler, length: int) -> bytes:
        limit = self.cut_body_after.pop(0) if length and self.cut_body_after else length
        body = super().read_body(handler, min(limit, length))
        if limit < length:
            if handler.command == "PATCH" and self.keeps_partial:
                self.uploads[handler.path.partition("?")[0].rpartition("/")[2]] += body
            handler.broken = True  # later: the client must not go on before this request is in the list
        return body

    def route(self, path: str) -> Route:
        seen = self.seen[-1]
        if path in self.paths:
            return super().route(path)

        def answer(handler: Handler) -> None:
            if handler.broken or self.lose(seen):
                handler.cut()
                return
            route = self.intercept(seen) or self._answer(seen)
            if self.lose_answer(seen):
                handler.cut()
                return
            route(handler)

        return answer

    def _answer(self, seen: Seen) -> Route:
        if seen.path == "/v2/":
            return reply(b"{}")
        if len(seen.body) > self.largest_request:
            return reply(status=413)
        repository, _, rest = seen.path.removeprefix("/v2/").partition("/blobs/")
        if rest:
            if rest == "uploads/":
                return self._begin(seen, repository)
            if rest.startswith("uploads/"):
                return self._upload(seen, repository, rest.removeprefix("uploads/"))
            blob = self.blobs.get(repository, {}).get(rest)
            return reply(b"", 404) if blob is None else reply(blob if seen.method == "GET" else b"")
        repository, _, tag = seen.path.removeprefix("/v2/").partition("/manifests/")
        return self._manifest(seen, repository, tag)

    def _begin(self, seen: Seen, repository: str) -> Route:
        query = parse_qs(seen.query)
        if "mount" in query and self.mounts != "declined":
            digest = query["mount"][0]
            source = self.blobs.get(query["from"][0], {})
            if self.mounts == "refused":
                return reply(b'{"errors":[{"code":"DENIED"}]}', 403)
            if self.mounts == "claimed":
                return reply(b"", 201, {"Location": f"/v2/{repository}/blobs/{digest}"})
            if digest in source:
                self.blobs.setdefault(repository, {})[digest] = source[digest]
                return reply(b"", 201, {"Location": f"/v2/{repository}/blobs/{digest}"})
        upload = str(next(self._ids))
        self.uploads[upload] = bytearray()
        return self._progress(self.begin_status, repository, upload)

    def _progress(self, status: int, repository: str, upload: str) -> Route:
        headers = {"OCI-Chunk-Min-Length": str(self.chunk_minimum)} if self.chunk_minimum else {}
        if (location := self.location(f"/v2/{repository}/blobs/uploads/{upload}")) is not None:
            headers["Location"] = location
        if (found := self.reports_range(len(self.uploads[upload]))) is not None:
            headers["Range"] = found
        return reply(b"", status, headers)

    def _upload(self, seen: Seen, repository: str, upload: str) -> Route:
        if upload not in self.uploads:
            return reply(b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}', 404)
        arrived = self.uploads[upload]
        if seen.method == "GET":
            return self._progress(204, repository, upload)
        if seen.method == "PATCH":
            if not self.takes_chunks:
                return reply(b'{"errors":[{"code":"UNSUPPORTED"}]}', 405)
            first = int(seen.headers["content-range"].partition("-")[0])
            if first != len(arrived):
                return self._progress(416, repository, upload)
            arrived += seen.body
            return self._progress(self.chunk_status, repository, upload)
        (digest,) = parse_qs(seen.query)["digest"]
        content = bytes(arrived) + seen.body
        del self.uploads[upload]
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            return reply(b'{"errors":[{"code":"DIGEST_INVALID","message":"wrong digest"}]}', 400)
        self.blobs.setdefault(repository, {})[digest] = content
        return reply(b"", 201, self._digest(digest))

    def _digest(self, digest: str) -> dict[str, str]:
        header = self.digest_header(digest)
        return {} if header is None else {"Docker-Content-Digest": header}

    def _manifest(self, seen: Seen, repository: str, tag: str) -> Route:
        tags = self.manifests.setdefault(repository, {})
        if seen.method == "PUT":
            document = json.loads(seen.body)
            blobs = [document["config"], *document["layers"]] if "config" in document else []
            known = {*self.blobs.get(repository, {}), *tags}
            for part in (*blobs, *document.get("manifests", ())):
                if part["digest"] not in known:
                    return reply(b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}', 400)
            tags[tag] = tags[f"sha256:{hashlib.sha256(seen.body).hexdigest()}"] = seen.body
        elif tag not in tags:
            return reply(b"", 404)
        headers = self._digest(f"sha256:{hashlib.sha256(tags[tag]).hexdigest()}")
        if seen.method == "GET":
            headers["Content-Type"] = json.loads(tags[tag]).get("mediaType", MediaType.OCI_MANIFEST)
            return reply(tags[tag], headers=headers)
        return reply(b"", 201 if seen.method == "PUT" else 200, headers)

    def requests(self, *methods: str) -> list[Seen]:
        """The requests so far with these methods, without the first look at /v2/."""
        return [seen for seen in self.seen if seen.path != "/v2/" and (not methods or seen.method in methods)]


def upload_registry() -> Iterator[UploadRegistry]:
    """Run such a registry: for a fixture."""
    with running(UploadRegistry) as found:
        yield found
