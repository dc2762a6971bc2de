"""Runs pybuild and kills it before or after one of its commits: `killed_at_commit.py before|after N ARGUMENT...`.

Exit status 137 says that the commit was reached; any other status is pybuild's own.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from typing import Any

from pybuild.store.objects import database

KILLED = 137


def main() -> None:
    when, number, *arguments = sys.argv[1:]
    left = int(number)

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            nonlocal left
            if sql != "COMMIT":
                return super().execute(sql, *values)
            left -= 1
            if left == 0 and when == "before":
                os._exit(KILLED)
            cursor = super().execute(sql, *values)
            if left == 0:
                os._exit(KILLED)
            return cursor

    class Sqlite:
        """The module, with connections that count."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sqlite3, name)

        def connect(self, *values: Any, **options: Any) -> sqlite3.Connection:
            return sqlite3.connect(*values, **options, factory=Connection)

    database.sqlite3 = Sqlite()  # type: ignore[attr-defined, assignment]
    from pybuild.cli import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
