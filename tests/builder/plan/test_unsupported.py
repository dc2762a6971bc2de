"""Unsupported flags are refused at their place in the recipe, and no other flags."""

from __future__ import annotations

import pytest

from pybuild.builder.errors import PlanError
from pybuild.builder.plan.unsupported import REFUSED, refuse_unsupported
from pybuild.parser import parse

FLAGS = {
    ("RUN", "device"): "RUN --device=a/b=c d",
}
TAKEN = """\
FROM --platform=linux/amd64 a AS b
ARG A
ENV B=c
LABEL d=e
RUN --network=none --security=insecure --mount=target=/a --mount=type=cache,target=/b f
RUN --mount=type=tmpfs,target=/a --mount=type=secret,id=a --mount=type=ssh,required f
COPY --from=g --chown=1 --chmod=755 --link --parents --exclude=a h /i
ADD --chown=1 --chmod=755 --link --exclude=a --checksum=abcd123 --unpack --keep-git-dir h /i
WORKDIR /j
USER k
CMD l
ENTRYPOINT m
EXPOSE 1
VOLUME /n
SHELL ["o"]
STOPSIGNAL 9
HEALTHCHECK --interval=1s CMD p
MAINTAINER q
ONBUILD RUN r
"""


def refusal(text: str) -> str | None:
    try:
        refuse_unsupported(parse(text))
    except PlanError as error:
        assert error.span is not None
        return f"{error.span.line}:{error.span.column} {error}"
    return None


@pytest.mark.parametrize("flag", sorted(FLAGS), ids=" --".join)
def test_an_unsupported_flag_is_refused_at_its_place(flag: tuple[str, str]) -> None:
    keyword, name = flag
    expected = f"2:{len(keyword) + 2} {keyword} --{name} is not supported" if flag in REFUSED else None
    assert refusal(f"FROM a\n{FLAGS[flag]}\nFROM a") == expected, "also in a stage that nobody needs"


def test_each_unsupported_flag_is_tested() -> None:
    assert set(FLAGS) >= set(REFUSED)


def test_supported_flags_are_not_refused() -> None:
    assert refusal(TAKEN) is None
