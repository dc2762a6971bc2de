"""pybuild diff as users see it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.cli import BASE, Pybuild, write_context

RECIPE = f"""\
FROM {BASE}
RUN mkdir /d && printf 1 > /d/one && printf 22 > /d/two && ln -s one /d/link
RUN printf 3 > /d/one && chmod 600 /d/two && rm /d/link && printf 4 > "$(printf '/d/new\\nline')"
"""


def test_an_image_is_compared_with_its_base(tmp_path: Path, pybuild: Pybuild) -> None:
    pybuild("-t", "app", write_context(tmp_path / "c", RECIPE))
    assert pybuild("diff", BASE, "app").out.splitlines() == [
        "           A /d  drwxr-xr-x 0:0",
        "     +1 B  A /d/new\\x0aline  -rw-r--r-- 0:0 1 B",
        "     +1 B  A /d/one  -rw-r--r-- 0:0 1 B",
        "     +2 B  A /d/two  -rw------- 0:0 2 B",
        "4 added, 0 changed, 0 deleted; +4 B",
    ]
    layers = pybuild("diff", BASE, "app", "--layers").out.splitlines()
    assert [line[14:30] for line in layers if "RUN" in line] == ["RUN /bin/sh -c m", "RUN /bin/sh -c p"]
    assert "           C /d/two  -rw-r--r-- 0:0 2 B -> -rw------- 0:0 2 B" in layers
    assert layers[-1] == "1 added, 2 changed, 1 deleted; +1 B"
    rows = [json.loads(line) for line in pybuild("diff", "--layers", "--json", BASE, "app").out.splitlines()]
    assert [(row["change"], row["path"], row["instruction"][:12]) for row in rows[-4:]] == [
        ("D", "/d/link", "RUN /bin/sh "),
        ("A", "/d/new\nline", "RUN /bin/sh "),
        ("C", "/d/one", "RUN /bin/sh "),
        ("C", "/d/two", "RUN /bin/sh "),
    ]
    assert (rows[-1]["before"]["mode"], rows[-1]["after"]["mode"]) == ("0644", "0600")
    assert rows[-2]["before"]["sha256"] != rows[-2]["after"]["sha256"]
    assert len({row["layer"] for row in rows}) == 2


def test_images_without_a_common_base_can_be_compared_but_not_by_layers(tmp_path: Path, pybuild: Pybuild) -> None:
    pybuild("-t", "one", write_context(tmp_path / "one", f"FROM {BASE}\nRUN printf a > /f\n"))
    pybuild("-t", "two", write_context(tmp_path / "two", f"FROM {BASE}\nRUN printf b > /f\n"))
    assert pybuild("diff", "one", "two").out.splitlines()[0] == "           C /f  -rw-r--r-- 0:0 1 B (other content)"
    assert pybuild("diff", "one", "one").out == "0 added, 0 changed, 0 deleted; +0 B\n"
    assert "the first image is not a base of the second" in pybuild.refused("diff", "--layers", "one", "two")
