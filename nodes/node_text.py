"""A line of text on a node of the pack."""

from __future__ import annotations


def show_text(hidden, text: str) -> None:
    """Show text on the node that `hidden` (with unique_id) belongs to; the page shows `ui` text of the host's only."""
    if hidden is not None and hidden.unique_id:
        from server import PromptServer  # starts with a running server only

        PromptServer.instance.send_progress_text(text, hidden.unique_id)
