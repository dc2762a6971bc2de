"""Adding the name of the layer to errors about it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def layer_errors(name: object) -> Iterator[None]:
    """Put `layer NAME: ` before the message of each StoreError of the block."""
    try:
        yield
    except StoreError as error:
        raise type(error)(f"layer {name}: {error}", hint=error.hint) from error
