"""What a step in the root of a container costs besides its command, on a directory instead of that root.

    python -m bench.in_place make STORE ROOT FACTS     ROOT becomes the image a; facts about it go to FACTS
    python -m bench.in_place switch STORE ROOT FACTS   it becomes the image b, by the difference
    python -m bench.in_place look STORE ROOT FACTS     ten files are changed, and what changed is found, ten times over
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pybuild.builder.files.layer_contents import layer_place, view_of
from pybuild.builder.jobs.in_place import root_layers
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.root_changes import root_changes
from pybuild.store.layers.root_facts import Facts, settle
from pybuild.store.layers.root_switch import Held, KnownRoot, switch_root
from pybuild.store.store import Access, Store
from pybuild.store.system.directories import opened_directory

CHANGED, WALKS = 10, 10
_NOTHING_HELD = Held(frozenset())


def main() -> None:
    what, store_path, root_path, facts_path = sys.argv[1:]
    store = Store(store_path, Access.READ)
    before, after = (
        [layer_place(store, changeset, "") for changeset in store.snapshots.changesets(store.images.find(name).snapshot)]
        for name in ("a", "b")
    )
    view = view_of(before)
    with opened_directory(root_path) as root:
        if what == "make":
            files = switch_root(root, root_layers(before), view, _NOTHING_HELD).files
            with opened_directory(os.path.dirname(root_path)) as scratch:
                Path(facts_path).write_bytes(settle(Facts(files), scratch).encode())
            return
        facts = Facts.decode(Path(facts_path).read_bytes())
        if what == "switch":
            known = KnownRoot(view, len(before) - 1, facts.files, frozenset())
            switch_root(root, root_layers(after), view_of(after), _NOTHING_HELD, known)
            return
        for number in range(CHANGED):
            Path(root_path, f"changed-{number}").write_text("text\n")
        for _ in range(WALKS):
            found = root_changes(root, view, facts, Toc.of([]))
            assert len(found.changes.entries) == CHANGED


if __name__ == "__main__":
    main()
