"""What each example has to do: an edit, the steps behind it, and a look at the running image."""

from __future__ import annotations

import json
import platform
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.examples.containers import CheckFailed, healthcheck, podman, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Archives = dict[str, "Path"]  # tag -> the OCI archive of its image


@dataclass(frozen=True)
class Example:
    """One directory of examples/."""

    check: Callable[[Archives, bool], None]  # raises CheckFailed; the second argument says whether the edit has been made
    edit: tuple[str, str, str]  # a file, a text in it, what replaces it
    again: tuple[str, ...]  # how the instructions begin that run after the edit
    builds: dict[str, tuple[str, ...]] | None = None  # tag -> options, if it is more than one image
    platforms: tuple[str, ...] = ()  # for several processors


def expect(text: str, *parts: str) -> None:
    for part in parts:
        if part not in text:
            raise CheckFailed(f"{part!r} is not in the answer:\n{text}")


def django(archives: Archives, edited: bool) -> None:
    with (
        podman() as tool,
        started(tool, tool.load(archives["django"]), "--env=DJANGO_SECRET_KEY=only-for-this-check") as container,
    ):
        page = container.get("/", 8000)
        expect(page, "<h1>Memos</h1>" if edited else "<h1>Notes</h1>", "written by a migration", "/static/notes/style.")
        expect(container.get("/static/notes/style.css", 8000), "sans-serif")
        expect(container.execute("id", "-un"), "app")
        container.execute(*healthcheck(archives["django"]))


def node(archives: Archives, edited: bool) -> None:
    with podman() as tool, started(tool, tool.load(archives["node"])) as container:
        expect(container.get("/?name=you", 8080), "Good day, you" if edited else "Hello, you")
        container.execute(*healthcheck(archives["node"]))
        expect(container.execute("sh", "-c", "ls node_modules; command -v npm || echo no npm"), "express", "no npm")


def go(archives: Archives, edited: bool) -> None:
    with podman() as tool, started(tool, tool.load(archives["go"])) as container:
        expect(container.get("/?name=you", 8080), "Good day, you" if edited else "Hello, you")
        container.execute(*healthcheck(archives["go"]))


def c(archives: Archives, edited: bool) -> None:
    text = "some text\n"
    with podman() as tool:
        shown = tool.run(tool.load(archives["c"]), stdin=text)
    wanted = f"{zlib.crc32(text.encode()):08x}"
    expect(shown, f"crc32 {wanted}" if edited else wanted)


def java(archives: Archives, edited: bool) -> None:
    with podman() as tool, started(tool, tool.load(archives["java"])) as container:
        expect(container.get("/", 8080), "Good day from Java 21" if edited else "Hello from Java 21")
        container.execute(*healthcheck(archives["java"]))


def nginx(archives: Archives, edited: bool) -> None:
    with podman() as tool, started(tool, tool.load(archives["nginx"])) as container:
        expect(container.get("/", 8080), "<h1>Another site</h1>" if edited else "<h1>A site</h1>")
        headers = container.get("/", 8080, "--head", "--header", "Accept-Encoding: gzip")
        expect(headers, "Content-Encoding: gzip", "X-Content-Type-Options: nosniff")
        expect(container.execute("id", "-un"), "www-data")
        container.execute(*healthcheck(archives["nginx"]))


def postgres(archives: Archives, edited: bool) -> None:
    waiting = "until pg_isready --quiet --host=127.0.0.1; do sleep 0.2; done"
    volume = "--volume=data:/var/lib/postgresql"
    with podman() as tool:
        password = tool.place / "password"
        password.write_text("only for this check\n")
        secret = (f"--volume={password}:/run/secrets/password:ro", "--env=POSTGRES_PASSWORD_FILE=/run/secrets/password")
        image = tool.load(archives["postgres"])
        for start in ("first", "second"):  # the second finds what the first has left in the volume
            with started(tool, image, volume, *secret) as container:
                container.execute("timeout", "60", "sh", "-c", waiting)
                expect(container.execute("psql", "-tAc", "select 1"), "1")
                text = "written after an edit" if edited else "written by an init script"
                expect(container.execute("psql", "-tAc", "select text from note"), text)
                if start == "second":
                    expect(container.execute("psql", "-tAc", "select count(*) from note"), "2")
                container.execute("psql", "-qc", "insert into note (text) values ('kept')")
                container.execute(*healthcheck(archives["postgres"]))


def monorepo(archives: Archives, edited: bool) -> None:
    with podman() as tool:
        shown = tool.run(tool.load(archives["worker"]), stdin="one two two\n")
        expect(shown, "two: 2\none: 1\n" if edited else "2 two\n1 one\n")
        with started(tool, tool.load(archives["api"])) as container:
            answer = json.loads(container.get("/?text=b+a+b", 8080))
            if answer != {"words": {"b": 2, "a": 1}}:
                raise CheckFailed(str(answer))
            container.execute(*healthcheck(archives["api"]))


def uv(archives: Archives, edited: bool) -> None:
    with podman() as tool, started(tool, tool.load(archives["uv"])) as container:
        expect(container.get("/?name=you", 8000), '{"greeting":"you"}' if edited else '{"hello":"you"}')
        container.execute(*healthcheck(archives["uv"]))
        expect(container.execute("sh", "-c", "command -v uv || echo no uv"), "no uv")


def multi_arch(archives: Archives, edited: bool) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    with podman() as tool:
        expect(tool.run(tool.load(archives["multi-arch"])), f"a {'small ' if edited else ''}program for {machine}")


HELLO = ("Hello, ", "Good day, ")
EXAMPLES = {
    "django": Example(django, ("notes/templates/notes/index.html", "<h1>Notes", "<h1>Memos"), ("COPY . .", "RUN DJANGO_SECRET_KEY")),
    "node": Example(node, ("src/greeting.ts", *HELLO), ("COPY src src", "RUN npm run build", "COPY --from=compiled")),
    "go": Example(go, ("page.html", *HELLO), ("COPY . .", "RUN --network=none", "COPY --from=build")),
    "c": Example(
        c, ("main.c", '"%08"', '"crc32 %08"'), ("COPY Makefile *.c *.h ./", "RUN --network=none", "COPY --from=build")
    ),
    "java": Example(
        java, ("src/hello/Server.java", '"Hello from', '"Good day from'), ("COPY src src", "RUN javac", "COPY --from=jar")
    ),
    "nginx": Example(nginx, ("site/index.html", "<h1>A site", "<h1>Another site"), ("COPY site", "RUN find", "COPY --from=site")),
    "postgres": Example(postgres, ("initdb.d/2-data.sql", "by an init script", "after an edit"), ("COPY initdb.d",)),
    "monorepo": Example(
        monorepo,
        ("services/worker/__main__.py", 'f"{number} {word}"', 'f"{word}: {number}"'),
        ("COPY services services", "COPY services/worker", "RUN --network=none python3"),
        builds={"api": (), "worker": ("--target=worker",), "test": ("--target=test",)},
    ),
    "uv": Example(uv, ("src/hello/__init__.py", '"hello":', '"greeting":'), ("COPY src src", "RUN --mount", "COPY --from=build")),
    "multi-arch": Example(
        multi_arch,
        ("about.c", "a program", "a small program"),
        ("COPY about.c", *["RUN --network=none"] * 2, *["COPY --from=build"] * 2, *["RUN about"] * 2),
        builds={"multi-arch": (), "try": ("--target=try",)},
        platforms=("linux/amd64", "linux/arm64"),
    ),
}
