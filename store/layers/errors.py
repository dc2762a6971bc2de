"""Adding the name of the layer to errors about it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.store.errors import StoreError
from pybuild.store.system.disk_full import no_space

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def layer_errors(name: object) -> Iterator[None]:
    """Put `layer NAME: ` before the message of each StoreError of the block. An OSError for a full disk becomes NoSpace."""
    try:
        yield
    except StoreError as error:
        raise type(error)(f"layer {name}: {error}", hint=error.hint) from error
    except OSError as error:
        raise no_space(error, f"layer {name}") from error
