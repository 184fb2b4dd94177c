"""Text and pictures on a node."""

from __future__ import annotations

import torch

from comfy_api.latest import io, ui
from comfy_execution.utils import get_executing_context


def show_text(text: str) -> None:
    """Show text on the node that runs, in the page that queued it, and in no other.

    The pack's extension of the page hears `safa_text`, which says whose prompt it is, keeps the text and leaves out
    the progress text that follows; where it is off, the host shows that one.
    """
    running = get_executing_context()
    if running is None:
        return
    from server import PromptServer  # starts with a running server only

    server = PromptServer.instance
    if server.client_id is None:  # queued by a script that listens to nothing
        return
    said = {"node": running.node_id, "text": text, "prompt_id": running.prompt_id}
    server.send_sync("safa_text", said, server.client_id)
    server.send_progress_text(text, running.node_id, server.client_id)


def text_output(text: str) -> dict:
    """The `ui` of text on a node: for scripts as the host names it, and for the pack's extension of the page."""
    return {"text": [text], "safa_text": [text]}


def show_preview(cls: type[io.ComfyNode], picture: torch.Tensor, text: str, line: str | None = None) -> dict:
    """Show text on the node; returns the `ui` of its output, a picture [B, H, W, 3] and the text.

    line: shown on the node itself instead of the text, where the page has less room.
    """
    show_text(text if line is None else line)
    return {**ui.PreviewImage(picture, cls=cls).as_dict(), **text_output(text)}
