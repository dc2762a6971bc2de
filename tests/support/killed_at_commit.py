"""Runs pybuild and kills it at one moment: `killed_at_commit.py before|after|file N ARGUMENT...`.

`before` and `after`: the N-th commit of the tables. `file`: before the main process renames or removes its N-th file;
trees, which only `reset` removes where others can see them, count for `reset` alone.
Exit status 137 says that the moment was reached; any other status is pybuild's own.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from typing import Any

from pybuild.store.objects import database

KILLED = 137
_CHANGES = ("os.rename", "os.remove", "os.rmdir")  # audit events; os.unlink raises os.remove


def main() -> None:
    when, number, *arguments = sys.argv[1:]
    left = int(number)

    def one_more() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql != "COMMIT" or when == "file":
                return super().execute(sql, *values)
            last = one_more()
            if last and when == "before":
                os._exit(KILLED)
            cursor = super().execute(sql, *values)
            if last:
                os._exit(KILLED)
            return cursor

    class Sqlite:
        """The module, with connections that count."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sqlite3, name)

        def connect(self, *values: Any, **options: Any) -> sqlite3.Connection:
            return sqlite3.connect(*values, **options, factory=Connection)

    def audit(event: str, values: tuple[Any, ...]) -> None:
        if event in _CHANGES and (os.path.isabs(values[0]) or "reset" in arguments) and one_more():
            os._exit(KILLED)

    database.sqlite3 = Sqlite()  # type: ignore[attr-defined, assignment]
    from pybuild.cli import run

    if when == "file":
        sys.addaudithook(audit)
    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
