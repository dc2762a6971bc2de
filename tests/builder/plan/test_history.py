"""The exact lines of the history, and the config and the times of images."""

from __future__ import annotations

import json

import pytest

from pybuild.builder.output.assemble import assemble, image_config
from pybuild.builder.plan.history import command_list
from pybuild.builder.plan.stage_state import DEFAULT_PATH
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import ExecConfig, History, ImageConfig, normalise_history
from pybuild.store.objects.changesets import LayerBlob
from tests.support.recipes import Images, history, image, options, planned


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("RUN a  b", ["RUN /bin/sh -c a  b # buildkit"], id="RUN"),
        pytest.param('RUN ["a", "b c"]', ["RUN a b c # buildkit"], id="RUN in exec form"),
        pytest.param(
            "ARG A=1\nARG B\nRUN x", ["~ARG A=1", "~ARG B", "RUN |2 A=1 B= /bin/sh -c x # buildkit"], id="RUN with ARGs"
        ),
        pytest.param(
            "ARG B=1\nARG A=2\nARG B=3\nRUN x", ["~ARG B=1", "~ARG A=2", "~ARG B=3", "RUN |2 B=3 A=2 /bin/sh -c x # buildkit"],
            id="ARGs in the order of their first declaration",
        ),
        pytest.param(
            "ARG A=1\nENV A=2\nRUN x", ["~ARG A=1", "~ENV A=2", "RUN |1 A=2 /bin/sh -c x # buildkit"], id="the value in effect"
        ),
        pytest.param("ARG A=1 B=2", ["~ARG A=1 B=2"], id="ARG of two"),
        pytest.param("ENV a=b c='d e'", ["~ENV a=b c=d e"], id="ENV"),
        pytest.param("ENV a b c", ["~ENV a=b c"], id="ENV in the old form"),
        pytest.param('LABEL a=b "c d"=e', ["~LABEL a=b c d=e"], id="LABEL"),
        pytest.param("COPY a b /c/", ["COPY a b /c/ # buildkit"], id="COPY"),
        pytest.param(
            "COPY --chmod=755 --chown=u:g a b", ["COPY --chown=u:g --chmod=755 a b # buildkit"], id="COPY with flags"
        ),
        pytest.param("COPY --chown=$none a b", ["COPY a b # buildkit"], id="COPY with an empty flag"),
        pytest.param("WORKDIR /x\nWORKDIR y", ["WORKDIR /x", "WORKDIR /x/y"], id="WORKDIR"),
        pytest.param("WORKDIR /", ["~WORKDIR /"], id="WORKDIR at the root"),
        pytest.param("USER u:g", ["~USER u:g"], id="USER"),
        pytest.param('CMD ["a", "b"]', ['~CMD ["a" "b"]'], id="CMD"),
        pytest.param("CMD a b", ['~CMD ["/bin/sh" "-c" "a b"]'], id="CMD in shell form"),
        pytest.param("ENTRYPOINT a", ['~ENTRYPOINT ["/bin/sh" "-c" "a"]'], id="ENTRYPOINT"),
        pytest.param("ENTRYPOINT []", ["~ENTRYPOINT []"], id="ENTRYPOINT with an empty list"),
        pytest.param("EXPOSE 81 80/udp", ["~EXPOSE [80/udp 81/tcp]"], id="EXPOSE"),
        pytest.param("VOLUME /b /a", ["~VOLUME [/b /a]"], id="VOLUME"),
        pytest.param('SHELL ["/bin/bash", "-c"]', ["~SHELL [/bin/bash -c]"], id="SHELL"),
        pytest.param("STOPSIGNAL SIGINT", ["~STOPSIGNAL SIGINT"], id="STOPSIGNAL"),
    ],
)  # fmt: skip
def test_each_instruction_adds_its_line_to_the_history(text: str, lines: list[str]) -> None:
    assert history(f"FROM base\n{text}") == lines


def test_the_history_of_copy_from_does_not_name_the_stage() -> None:
    assert history("FROM base AS a\nFROM base\nCOPY --from=a /x /y") == ["COPY /x /y # buildkit"]


def test_a_stage_from_a_stage_continues_its_history() -> None:
    assert history("FROM base AS a\nENV a=b\nFROM a\nUSER u") == ["~ENV a=b", "~USER u"]


def test_the_history_shows_proxies_only_if_the_recipe_declares_them() -> None:
    args = {"HTTP_PROXY": "http://user:secret@host"}
    assert history("FROM base\nRUN x", build_args=args) == ["RUN /bin/sh -c x # buildkit"]
    assert history("FROM base\nARG HTTP_PROXY\nRUN x", build_args=args)[-1].startswith("RUN |1 HTTP_PROXY=http://user")


def test_an_arg_without_a_value_is_written_without_the_inherited_one() -> None:
    assert history("FROM base AS a\nARG A=1\nFROM a\nARG A\nRUN x") == [
        "~ARG A=1", "~ARG A", "RUN |1 A=1 /bin/sh -c x # buildkit",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param([], "[]", id="nothing"),
        pytest.param([""], '[""]', id="an empty word"),
        pytest.param(["ä é 漢"], '["ä é 漢"]', id="printable characters"),
        pytest.param(['a"b\\c'], r'["a\"b\\c"]', id="quote and backslash"),
        pytest.param(["\a\b\f\n\r\t\v"], r'["\a\b\f\n\r\t\v"]', id="escapes that have a letter"),
        pytest.param(["\x00\x1b\x7f"], r'["\x00\x1b\x7f"]', id="other control characters"),
        pytest.param(["\u00a0\u200b\U000e0001"], r'["\u00a0\u200b\U000e0001"]', id="what does not print"),
        pytest.param(["\udcff"], r'["\xff"]', id="a byte that is no text"),
    ],
)
def test_lists_have_the_syntax_of_go(words: list[str], text: str) -> None:
    assert command_list(words) == text


# The config blob

DIGESTS = [Digest.of(b"%d" % number) for number in range(9)]


def built(text: str, created: dict[int, int], base: ExecConfig | None = None, **fields: object) -> ImageConfig:
    """The config of an image on a base of one layer. `created` maps the number of a step to the time when it ran."""
    result = planned(text, Images({"base": image(base, history=(History("2001-01-01T00:00:00Z", "base"),))}))
    layers = 1 + sum(line.node is not None for line in result.image.history)
    nodes = {node.id: created.get(node.number, 0) for node in result.nodes}
    return image_config(result.image, DIGESTS[:layers], nodes, options(**fields))


def times(config: ImageConfig) -> list[str]:
    return [(line.created or "")[-4:-1] for line in config.history]


def test_a_line_without_a_layer_has_the_time_of_the_next_layer_else_of_the_last() -> None:
    found = built("FROM base\nENV a=b\nRUN 1\nUSER u\nCOPY a b\nCMD x", {1: 11, 2: 22})
    assert times(found) == [":00", ":11", ":11", ":22", ":22", ":22"]
    assert found.created == found.history[-1].created


def test_an_image_that_adds_no_layer_has_the_time_of_its_base() -> None:
    found = built("FROM base\nENV a=b", {})
    assert [line.created for line in found.history] == ["2001-01-01T00:00:00Z", None]
    assert found.created == "2001-01-01T00:00:00Z"


def test_an_image_without_layers_has_no_time() -> None:
    result = planned("FROM scratch\nENV a=b")
    assert image_config(result.image, [], {}, options()).created is None


def test_source_date_epoch_is_the_time_of_new_lines_but_not_of_those_of_the_base() -> None:
    found = built("FROM base\nENV a=b\nRUN 1", {1: 11}, epoch=33)
    assert times(found) == [":00", ":33", ":33"]
    assert found.created == "1970-01-01T00:00:33Z"


def test_the_history_has_one_line_with_a_layer_for_each_layer() -> None:
    found = built("FROM base\nENV a=b\nRUN 1\nWORKDIR /x\nWORKDIR /\nCOPY a b", {})
    assert [line.empty_layer for line in found.history] == [False, True, False, False, True, False]
    assert all(line.comment == "buildkit.dockerfile.v0" for line in found.history[1:])


@pytest.mark.parametrize(
    ("history", "empty"),
    [
        pytest.param((), [False, False], id="none"),
        pytest.param((History(created_by="a"),), [False, False], id="too few"),
        pytest.param(tuple(History(created_by=c) for c in "abc"), [False, False, True], id="too many"),
        pytest.param((History(empty_layer=True), History()), [True, False, False], id="empty ones do not count"),
    ],
)
def test_the_history_of_a_base_is_adapted_to_the_number_of_its_layers(history: tuple[History, ...], empty: list[bool]) -> None:
    config = normalise_history(image(layers=2, history=history).config)
    assert [line.empty_layer for line in config.history] == empty


def test_labels_of_the_command_line_override_those_of_the_recipe() -> None:
    found = built("FROM base\nLABEL a=1 b=2", {}, labels={"b": "3", "c": "4"})
    assert found.config.labels == {"a": "1", "b": "3", "c": "4"}


def test_unknown_fields_of_the_config_of_a_base_are_kept() -> None:
    found = built("FROM base\nUSER u", {}, ExecConfig(extra={"Later": {"x": [1]}}))
    assert json.loads(found.to_bytes())["config"]["Later"] == {"x": [1]}


def test_the_config_of_an_image_from_scratch_has_the_platform() -> None:
    found = image_config(planned("FROM scratch\nENV a=b").image, [], {}, options())
    data = json.loads(found.to_bytes())
    assert (data["os"], data["architecture"], data["rootfs"]["diff_ids"]) == ("linux", "amd64", [])
    assert data["config"] == {"Env": [f"PATH={DEFAULT_PATH}", "a=b"], "WorkingDir": "/"}


def test_equal_images_have_equal_bytes() -> None:
    result = planned("FROM base\nRUN x")
    layers = [LayerBlob(digest, digest, 10, Compression.GZIP) for digest in DIGESTS[:2]]
    one, other = (assemble(result.image, layers, {0: 0, 1: 5}, options()) for _ in range(2))
    assert one == other


def test_layers_have_the_media_type_of_their_compression() -> None:
    layers = [LayerBlob(digest, digest, 10, kind) for digest, kind in zip(DIGESTS, Compression, strict=False)]
    result = planned("FROM base\nRUN x\nRUN y")
    manifest = json.loads(assemble(result.image, layers, {0: 0, 1: 5, 2: 6}, options()).manifest)
    found = {layer["mediaType"].rpartition(".tar")[2] for layer in manifest["layers"]}
    assert found == {"", "+gzip", "+zstd"}
