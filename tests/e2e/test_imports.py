"""What a build imports that finds everything in its cache: most of its time is that of its imports.

A list and not a time, so that it fails where a module comes in, whatever the machine does. Before you add a name here, see
whether the module can be imported where it is used.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.cli import BASE, SCRIPT, Pybuild, write_context

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = f"""\
FROM {BASE} AS builder
WORKDIR /src
COPY page .
RUN tr a-z A-Z < page > PAGE
FROM {BASE}
ENV PORT=80
COPY --from=builder --chown=1 /src/PAGE /srv/page
RUN chmod 400 /srv/page
CMD ["cat", "/srv/page"]
"""
# With everything that these import: Python's own modules differ from version to version.
FOREIGN = (
    "bisect click contextvars csv ctypes dataclasses datetime difflib encodings.ascii enum fcntl gc hashlib heapq json locale mmap "
    "pwd resource selectors signal sqlite3 threading zlib"
)
PARTS = """
pybuild: __main__ api build_log cli defaults image report result_files signals user_limits verbs version
pybuild.builder: annotations build cache_places errors events limits on_failure options remote_source secrets session
pybuild.builder.caches: caches offers
pybuild.builder.files: context_directory context_names context_source copy copy_layer copy_patterns ignore_file layer_contents passwd path_dict spool tree
pybuild.builder.host: cgroupfs id_map mountinfo obstacles
pybuild.builder.jobs: copy job progress
pybuild.builder.output: annotate assemble export image_writer
pybuild.builder.plan: check_build_args check_copies config copy draft empty_words epoch expansion_limit graph history image_directories lint mounts no_cache_filter parse_cache planner platforms replaced_words resolve run scope stage_state triggers unknown_values unsupported variables windows
pybuild.builder.sandbox: container_root
pybuild.builder.solve: cache cache_keys candidates node_keys outcomes solver
pybuild.builder.sources: contexts images layers recipe
pybuild.builder.steps: copied_trees foreign image_users layer_forms layer_stack make new_layers pending_layer workdir
pybuild.builder.workers: pool tasks
pybuild.options: annotations arguments buildkit_arguments cache caches call completion display emulators groups key_values on_failure outputs ported results rules secrets sources steps
pybuild.parser: buildfile deepmatch directives durations errors globs heredocs ignorefile ignorewalk instructions lines modes mounts patterns ports serial signals suggest words
pybuild.progress: formatting jsonlines lines quiet
pybuild.remote: errors
pybuild.remote.registry: config_files
pybuild.store: errors store
pybuild.store.exporting: archive layout publish
pybuild.store.formats: bounded_json capability clamp compression digest docker_archive media_types oci_config oci_layout oci_manifest pipeline platform reference tar tar_header toc whiteout windows_layer
pybuild.store.layers: view write
pybuild.store.objects: blobs build_logs builds cache_mounts changesets claimed_layers condemned context_memo database downloads identity images indexes ingest names parts places records reserve schema sealing snapshots
pybuild.store.system: directories disk_full files holes process_end syscalls
pybuild.values: errors limits pattern redact sizes source
"""


def imported(command: list[str], pybuild: Pybuild) -> set[str]:
    """The modules that a command imports, by `python -X importtime`."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], env=pybuild.env(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def allowed() -> set[str]:
    names = {"pybuild"}
    for line in PARTS.split("\n"):
        package, _, modules = line.partition(":")
        names |= {package, *(f"{package}.{module}" for module in modules.split())} if package else set()
    return {name for name in names if name}


def test_a_cached_build_imports_nothing_that_it_does_not_need(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", RECIPE, page="a page\n", _dockerignore="*.tmp\n")
    command = ["-q", "--network=none", "-t", "app", "-o", f"type=oci,dest={tmp_path / 'out.tar'}", str(context)]
    for _ in range(2):
        pybuild(*command)
    found = imported([str(SCRIPT), *command], pybuild)
    own = {name for name in found if name.startswith("pybuild")}
    assert own <= allowed()
    foreign = imported(["-c", f"import {', '.join(FOREIGN.split())}"], pybuild)
    assert found - own - foreign == {"imported package"} - foreign


def test_the_list_names_modules_that_exist() -> None:
    assert {name for name in allowed() if importlib.util.find_spec(name) is None} == set()
