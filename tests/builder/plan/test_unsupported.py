"""Unsupported flags are refused at their place in the recipe, and no other flags."""

from __future__ import annotations

import pytest

from pybuild.builder.errors import PlanError
from pybuild.builder.plan.unsupported import REFUSED, refuse_unsupported
from pybuild.parser import parse
from pybuild.parser.flags import FLAGS
from tests.support.fields import flags_of

EXAMPLES = {
    ("RUN", "device"): "RUN --device=a/b=c d",
}
SUPPORTED = """\
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
HEALTHCHECK --interval=1s --timeout=1s --start-period=1s --start-interval=1s --retries=1 CMD p
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


@pytest.mark.parametrize("flag", sorted(EXAMPLES), ids=" --".join)
def test_an_unsupported_flag_is_refused_at_its_place(flag: tuple[str, str]) -> None:
    keyword, name = flag
    expected = f"2:{len(keyword) + 2} {keyword} --{name} is not supported" if flag in REFUSED else None
    assert refusal(f"FROM a\n{EXAMPLES[flag]}\nFROM a") == expected, "also in a stage that nobody needs"


def test_each_unsupported_flag_is_tested() -> None:
    assert set(EXAMPLES) >= set(REFUSED), "add an example of each flag of REFUSED to EXAMPLES"


def test_supported_flags_are_not_refused() -> None:
    assert refusal(SUPPORTED) is None


def test_every_flag_is_supported_or_refused() -> None:
    every = {(keyword, name) for keyword, flags in FLAGS.items() for name in flags}
    missing = [f"{keyword} --{name}" for keyword, name in sorted(every - set(REFUSED) - flags_of(parse(SUPPORTED)))]
    assert not missing, f"{', '.join(missing)}: use it in SUPPORTED, or add it to builder/plan/unsupported.py::REFUSED"
