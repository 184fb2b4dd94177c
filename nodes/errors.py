"""Errors in the words of a node's user."""

from __future__ import annotations

from contextlib import contextmanager


@contextmanager
def named(who: str):
    """Put the node's name before a ValueError of the core."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from error
