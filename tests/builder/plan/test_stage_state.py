"""The state of a stage between two instructions."""

from __future__ import annotations

import pytest

from pybuild.builder.plan import stage_state
from pybuild.builder.plan.stage_state import DEFAULT_PATH, DEFAULT_SHELL, StageState
from pybuild.store.formats.oci_config import ExecConfig

EMPTY = StageState.of_base(ExecConfig())


def test_a_state_is_immutable() -> None:
    before = EMPTY.with_arg("a", "1")
    before.with_env({"b": "2"}).with_arg("c", "3")
    assert (before.args, before.env) == ({"a": "1"}, {"PATH": DEFAULT_PATH})


def test_environment_entries_without_an_equals_sign_are_ignored() -> None:
    assert StageState(ExecConfig(env=("A", "B=1"))).env == {"B": "1"}


def test_the_last_value_of_a_name_counts() -> None:
    assert StageState(ExecConfig(env=("A=1", "A=2"))).scope == {"A": "2"}


def test_an_arg_without_a_value_is_not_in_scope() -> None:
    assert "a" not in EMPTY.with_arg("a", None).scope


def test_an_arg_with_an_empty_value_is_in_scope() -> None:
    assert EMPTY.with_arg("a", "").scope["a"] == ""


def test_args_are_listed_in_the_order_of_their_first_declaration() -> None:
    state = EMPTY.with_arg("b", "1").with_arg("a", None).with_arg("b", "2")
    assert state.run_args == ("b=2", "a=")


def test_an_arg_in_the_history_has_the_value_that_a_step_sees() -> None:
    assert EMPTY.with_arg("a", "1").with_env({"a": "2"}).run_args == ("a=2",)


@pytest.mark.parametrize(("shell", "expected"), [(None, DEFAULT_SHELL), (("x",), ("x",)), ((), DEFAULT_SHELL)])
def test_the_shell_is_the_base_s_or_the_default(shell: tuple[str, ...] | None, expected: tuple[str, ...]) -> None:
    assert StageState.of_base(ExecConfig(shell=shell)).shell == expected


@pytest.mark.parametrize(
    ("directory", "path", "expected"),
    [
        ("/w", "a", "/w/a"),
        ("/w", "/a", "/a"),
        ("/w", "..", "/"),
        ("/w", "../../..", "/"),
        ("/w", "", "/w"),
        ("", "a", "/a"),
        ("w", "a", "/w/a"),
        ("//w", "a", "/w/a"),
    ],
)
def test_paths_are_absolute_and_clean(directory: str, path: str, expected: str) -> None:
    assert StageState(ExecConfig(working_dir=directory)).absolute(path) == expected


def test_a_row_of_envs_splits_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    split: list[tuple[str, ...]] = []
    whole = stage_state._split

    def counted(env: tuple[str, ...]) -> dict[str, str]:
        split.append(env)
        return whole(env)

    monkeypatch.setattr(stage_state, "_split", counted)
    state = StageState(ExecConfig(env=("A=0", "B=0")))
    for number in range(100):
        state = state.with_env({f"V{number}": "x", "B": str(number)} if number % 2 else {f"V{number}": "x"})
    assert len(split) == 1
    assert state.env == {"A": "0", "B": "99", **{f"V{number}": "x" for number in range(100)}}
    assert list(state.env)[:3] == ["A", "B", "V0"]


def test_two_states_that_stand_on_one_have_their_own_variables() -> None:
    base = StageState(ExecConfig(env=("A=0", "odd")))
    one, two = base.with_env({"X": "1"}), base.with_env({"X": "2", "A": "3"})
    assert (base.env, one.env, two.env) == ({"A": "0"}, {"A": "0", "X": "1"}, {"A": "3", "X": "2"})
    assert one.config.env == ("A=0", "X=1")
    assert one.with_env({"Y": ""}).env == {"A": "0", "X": "1", "Y": ""}
    assert one.env == {"A": "0", "X": "1"}
