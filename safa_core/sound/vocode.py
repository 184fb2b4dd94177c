"""From mel frames to sound in pieces that add up to the whole, on open canvases and around rings.

A HiFi-GAN vocoder is convolutions only, so each sample depends on a few frames around it. `vocoder_reach` counts them
from the kernels; a piece that is given that many frames on either side comes out as the whole would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..plan import ViewPlan
from .circular import circular, decoding_layers

BLOCK = 1024  # mel frames that are vocoded together, besides their context

Synthesise = Callable[[torch.Tensor, int], torch.Tensor]  # (mel [B, n, bins], first frame) -> [B, at least n * hop]


def vocoder_reach(vocoder: nn.Module) -> tuple[int, int, int]:
    """(hop, frames before, frames after): samples per mel frame, and the context that one frame's samples need.

    vocoder: a HiFi-GAN with `conv_pre`, `upsampler`, `resblocks` (of `convs1`, `convs2`) and `conv_post`, such as
    transformers' SpeechT5HifiGan. Counted from the samples of frame 0 back to the frames that they are made of.
    """
    hop = math.prod(layer.stride[0] for layer in vocoder.upsampler)
    branches = len(vocoder.resblocks) // len(vocoder.upsampler)
    span = _inputs(vocoder.conv_post, (0, hop - 1))
    for i in reversed(range(len(vocoder.upsampler))):
        spans = [_block_inputs(block, span) for block in vocoder.resblocks[i * branches : (i + 1) * branches]]
        span = min(first for first, _ in spans), max(last for _, last in spans)
        span = _inputs(vocoder.upsampler[i], span)
    first, last = _inputs(vocoder.conv_pre, span)
    return hop, -first, last


def _block_inputs(block: nn.Module, span: tuple[int, int]) -> tuple[int, int]:
    for first, second in zip(reversed(block.convs1), reversed(block.convs2), strict=True):
        span = _inputs(first, _inputs(second, span))
    return span


def _inputs(layer: nn.Module, span: tuple[int, int]) -> tuple[int, int]:
    """First and last input of a 1-D convolution that its outputs `span` (both ends included) are made of."""
    extent = layer.dilation[0] * (layer.kernel_size[0] - 1)
    padding = layer.padding[0]
    first, last = span
    if isinstance(layer, nn.ConvTranspose1d):
        stride = layer.stride[0]
        return math.ceil((first + padding - extent) / stride), (last + padding) // stride
    return first - padding, last - padding + extent


@dataclass
class Vocoder:
    """Makes sound of mel, one piece at a time.

    synthesise: (mel [B, n, bins], number of its first frame) -> [B, at least n * hop]; the first n * hop samples are
                the frames' own.
    hop:        samples per mel frame.
    before, after: frames of context that make a frame's samples come out as in one piece.
    block:      frames vocoded together, besides the context.
    """

    synthesise: Synthesise
    hop: int
    before: int
    after: int
    block: int = BLOCK

    def pieces(self, blocks: Iterable[torch.Tensor], loop: bool = False) -> Iterator[tuple[int, torch.Tensor]]:
        """(frame, samples [B, n * hop]) for consecutive mel `blocks` [B, any, bins]: each frame exactly once.

        On a ring the pieces start `before` frames into the stream and go round, so `frame` runs past its end.
        """
        mel: Any = None  # the frames still needed
        base = 0  # the number of the first of them
        done = self.before if loop else 0
        for block in self._closed(blocks) if loop else blocks:
            keep = max(base, done - self.before)
            mel = block if mel is None else torch.cat([mel[:, keep - base :], block], dim=1)
            base = keep
            end = base + mel.shape[1] - self.after
            while end - done >= self.block:
                yield done, self._piece(mel, base, done, self.block)
                done += self.block
        left = base + mel.shape[1] - done - (self.after if loop else 0)
        if left > 0:
            yield done, self._piece(mel, base, done, left)

    def _piece(self, mel: torch.Tensor, base: int, frame: int, count: int) -> torch.Tensor:
        first = max(frame - self.before, base)
        sound = self.synthesise(mel[:, first - base : frame + count + self.after - base], first)
        start = (frame - first) * self.hop
        return sound[:, start : start + count * self.hop]

    def _closed(self, blocks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The blocks of a ring, then as many of its first frames again as the context needs."""
        need = self.before + self.after
        head: Any = None
        total = 0
        for block in blocks:
            if total < need:
                head = block[:, :need] if head is None else torch.cat([head, block], dim=1)[:, :need]
            total += block.shape[1]
            yield block
        if need:
            yield head[:, torch.arange(need) % min(total, need)]


@dataclass
class Differences:
    """How far neighbouring windows differ where they overlap, in the mel's own unit."""

    largest: float = 0.0
    _squares: float = field(default=0.0, repr=False)
    _count: int = field(default=0, repr=False)

    def add(self, earlier: torch.Tensor, later: torch.Tensor) -> None:
        difference = (earlier - later).float()
        if difference.numel():
            self.largest = max(self.largest, difference.abs().max().item())
            self._squares += difference.square().sum().item()
            self._count += difference.numel()

    @property
    def rms(self) -> float:
        return math.sqrt(self._squares / self._count) if self._count else 0.0


def join_windows(
    plan: ViewPlan, weights: torch.Tensor, windows: Iterable[torch.Tensor], differences: Differences | None = None
) -> tuple[int, Iterator[torch.Tensor]]:
    """Join windows one after another (Eq. 4), holding no more than two of them and the overlap of a ring.

    plan:    geometry in mel frames. weights: [len(plan), rows, view] of a join operator, rows 1 or the mel bins.
    windows: the views' mels [B, view, bins], in order. differences: collects how far they differ where they overlap.
    Returns the canvas frame that comes first, and consecutive blocks [B, n, bins] that cover the canvas once.
    """
    overlap = plan.starts[-1] + plan.view - plan.starts[0] - plan.length if plan.loop else 0
    if differences is not None:
        windows = _compared(plan, windows, differences)
    blocks = _joined(plan, weights, windows)
    return (plan.starts[0] + overlap) % plan.length, _ring_closed(blocks, overlap) if overlap else blocks


def _joined(plan: ViewPlan, weights: torch.Tensor, windows: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    pending = None
    base = plan.starts[0]
    for start, weight, window in zip(plan.starts, weights, windows, strict=True):
        window = window * weight.T.to(window)
        if pending is not None:
            ready = start - base
            yield pending[:, :ready]
            window[:, : pending.shape[1] - ready] += pending[:, ready:]
        pending = window
        base = start
    yield pending


def _ring_closed(blocks: Iterable[torch.Tensor], overlap: int) -> Iterator[torch.Tensor]:
    """Hold back the first `overlap` frames and add them to the last ones."""
    head = []
    missing = overlap  # frames that `head` still lacks
    waiting: Any = None
    for block in blocks:
        if waiting is not None:
            yield waiting
        taken = block[:, :missing]
        head.append(taken)
        missing -= taken.shape[1]
        waiting = block[:, taken.shape[1] :]
    waiting[:, waiting.shape[1] - overlap :] += torch.cat(head, dim=1)
    yield waiting


def _compared(plan: ViewPlan, windows: Iterable[torch.Tensor], differences: Differences) -> Iterator[torch.Tensor]:
    """The windows as they come, while `differences` collects how far they differ where they overlap."""
    overlaps = plan.overlaps
    earlier = first = None
    for i, window in enumerate(windows):
        if earlier is not None:
            differences.add(earlier, window[:, : overlaps[i - 1]])
        if i == 0 and plan.loop:
            first = window[:, : overlaps[-1]].clone()
        earlier = window[:, plan.view - overlaps[i] :].clone() if i < len(overlaps) else None
        yield window
    if first is not None and len(plan) > 1:
        differences.add(earlier, first)


def scaled(plan: ViewPlan, factor: int) -> ViewPlan:
    """A plan with `factor` columns for each of this plan's: latent columns to mel frames."""
    return ViewPlan(tuple(factor * start for start in plan.starts), factor * plan.view, factor * plan.length, plan.loop)


@contextmanager
def circular_convolutions(module: nn.Module, axis: int) -> Iterator[None]:
    """`circular` for a decoder whose other layers are known to treat all places alike.

    diffusers' AutoencoderKL attends with linear layers over tokens, which `wrap_obstacle` cannot tell from those that
    know positions. Raises ValueError for a convolution that cannot wrap.
    """
    with ExitStack() as rings:
        for layer in dict.fromkeys(layer for _, layer in decoding_layers(module)):
            if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)):
                rings.enter_context(circular(layer, axis))
        yield
