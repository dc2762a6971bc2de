"""Made-up events of a build, and a clock that tests advance."""

from __future__ import annotations

from pybuild.builder.events import StepOutput, StepRef


def step(
    node: int, stage: str = "web", number: int = 1, total: int = 2, instruction: str = "RUN make", of: int = 0
) -> StepRef:
    return StepRef(node, stage, number, total, instruction, of)


def wrote(ref: StepRef, text: str | bytes, stream: int = 1) -> StepOutput:
    return StepOutput(ref, stream, text.encode() if isinstance(text, str) else text)


class Clock:
    """A clock in seconds that returns `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
