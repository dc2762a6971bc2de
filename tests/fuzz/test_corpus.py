"""The seeds and the corpus of each fuzz target, read by the functions that `make fuzz` calls."""

from __future__ import annotations

import pytest

from tests.fuzz.target import CORPUS, inputs, load, names


@pytest.mark.parametrize("name", names())
def test_a_target_reads_or_refuses_each_input_of_its_corpus(name: str) -> None:
    target = load(name)
    read = 0
    for shown, data in inputs(name, target):
        try:
            read += target.read(data)
        except BaseException as error:
            error.add_note(f"input: {shown}, {data[:200]!r}")
            raise
    assert read >= len(target.seeds) // 2, "most seeds are valid inputs"


def test_each_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(names())
