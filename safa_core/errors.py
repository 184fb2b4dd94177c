"""Error messages of libraries, short enough for a sentence of ours."""

from __future__ import annotations


def shorten(error: Exception) -> str:
    """The first line of an error's message, at most 200 characters and without its full stop; else its class's name."""
    line = str(error).strip().split("\n")[0]
    return line[:200].rstrip(". ") or type(error).__name__
