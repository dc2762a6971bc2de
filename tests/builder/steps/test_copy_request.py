"""Everything in a CopyStep that the copy itself needs reaches the worker."""

from __future__ import annotations

from dataclasses import fields

import pytest

from pybuild.builder.files.copy import CopyRequest
from pybuild.builder.files.tree import InlineFile
from pybuild.builder.plan.graph import CopyStep
from pybuild.builder.steps.make import copy_request
from tests.support.fields import names_of, with_other

STEP = CopyStep(("a",), "/d/", None, None, False)
OTHER: dict[str, object] = {"inline": (InlineFile("a", "x"),)}
NOT_PASSED_ON = {  # field of CopyStep -> why a CopyRequest does not have it
    "chown": "`owner` has its numbers, from the passwd of the image",
    "from_stage": "CopyFiles has the layers of the stage",
    "link": "CopyFiles gets no layers below",
    "context": "CopyFiles has the source of the files",
    "identity": "only for the cache key",
    "remote": "CopyFiles has the fetched files",
}


@pytest.mark.parametrize("name", names_of(CopyStep))
def test_every_field_of_a_step_is_passed_on(name: str) -> None:
    passed_on = copy_request(with_other(STEP, name, OTHER), None, 5) != copy_request(STEP, None, 5)
    if name in NOT_PASSED_ON:
        assert not passed_on, f"CopyStep.{name} is passed on: remove it from NOT_PASSED_ON"
    else:
        assert passed_on, f"CopyStep.{name}: pass it on in steps/make.py::copy_request, or say in NOT_PASSED_ON why not"


def test_every_field_of_a_request_is_filled() -> None:
    step = STEP
    for name in names_of(CopyStep):
        step = with_other(step, name, OTHER)
    request = copy_request(step, (1, 2), 5)
    for field in fields(CopyRequest):
        assert getattr(request, field.name) != field.default, f"CopyRequest.{field.name}: fill it in steps/make.py::copy_request"


def test_the_list_of_fields_that_are_not_passed_on_names_fields() -> None:
    assert set(NOT_PASSED_ON) <= set(names_of(CopyStep))
