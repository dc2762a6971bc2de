"""The largest things in a layer: files, and directories in which nothing stands out."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING

from pybuild.store.formats.toc import parent_of

if TYPE_CHECKING:
    from collections.abc import Iterable


def largest(files: Iterable[tuple[bytes, int]], count: int) -> list[tuple[bytes, int]]:
    """The `count` largest things among files with their sizes, each with its bytes, the largest first.

    A thing is a file, or a directory, which ends in b"/". A directory gives way to its content if one thing in it has more
    than half of its bytes; the root always does. So no byte is counted for two things.
    """
    content: defaultdict[bytes, list[tuple[int, bytes]]] = defaultdict(list)  # directory -> sizes and paths in it
    sums: defaultdict[bytes, int] = defaultdict(int)
    for path, size in files:
        if size:
            directory = parent_of(path)
            content[directory].append((size, path))
            sums[directory] += size
    # A directory has a shorter path than what is in it, so its sum is complete when its turn comes.
    pending = [(-len(directory), directory) for directory in sums]
    heapq.heapify(pending)
    while pending:
        _, directory = heapq.heappop(pending)
        if directory:
            above = parent_of(directory)
            if above not in sums:
                heapq.heappush(pending, (-len(above), above))
            content[above].append((sums[directory], directory + b"/"))
            sums[above] += sums[directory]
    found: list[tuple[bytes, int]] = []
    heap = [(-size, path) for size, path in content.get(b"", ())]
    heapq.heapify(heap)
    while heap and len(found) < count:
        negative, path = heapq.heappop(heap)
        inside = content[path[:-1]] if path.endswith(b"/") else []
        if inside and 2 * max(inside)[0] > -negative:
            for size, each in inside:
                heapq.heappush(heap, (-size, each))
        else:
            found.append((path, -negative))
    return found
