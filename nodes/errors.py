"""Errors in the words of a node's user.

Below a node's `execute` errors are plain ValueErrors; `execute` runs under `named`, which puts the node's name before
the message once.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

# what torch, diffusers and transformers raise for files and configurations that they cannot use
LIBRARY_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, pickle.UnpicklingError)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Put a node's name before the message of every ValueError that leaves the block or the decorated function."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
