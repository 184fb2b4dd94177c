"""Text and pictures on a node of the pack."""

from __future__ import annotations

from typing import Any

import torch

from comfy_api.latest import io, ui


def show_text(hidden: Any, text: str) -> None:
    """Show text on the node of `hidden` (with unique_id), as a node's progress.

    The page shows `ui` text on some of the host's own nodes alone.
    """
    if hidden is not None and hidden.unique_id:
        from server import PromptServer  # starts with a running server only

        PromptServer.instance.send_progress_text(text, hidden.unique_id)


def show_preview(cls: type[io.ComfyNode], picture: torch.Tensor, text: str, line: str | None = None) -> dict:
    """Show text on the node; returns the `ui` of its output, a picture [B, H, W, 3] and the text.

    line: shown on the node itself instead of the text, where the page has less room.
    """
    show_text(cls.hidden, text if line is None else line)
    return {**ui.PreviewImage(picture, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
