"""A timeline of prompts: text lines with spans, and how much each prompt weighs on every column of the canvas."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch

from .plan import ViewPlan

SUFFIX = {"seconds": "s", "pixels": "px", "latent": ""}

# For text whose white space is single spaces: every repetition matches in one way only, so that a line of any length is
# read in linear time
_PLACE = r"(\d+(?:\.\d*)?|\.\d+) ?(s|px|v)?"
_SPAN = re.compile(rf"(?:{_PLACE})? ?[-–—] ?(?:{_PLACE})?", re.IGNORECASE)
_VIEW = re.compile(r"(\d+) ?v", re.IGNORECASE)
# "0 to 8: rain" and "8-20 rain" were meant as spans; "1girl, smiling" and "8-bit music" are prompts
_LIKE_A_SPAN = re.compile(
    r"[-–—+.]? ?\d[\d.,]* ?[a-z%]{0,8} ?(?::|(?:[-–—/~]|to\b) ?(?:[\d.]|[^:,(]{0,12}:))", re.IGNORECASE
)


@dataclass(frozen=True)
class Ruler:
    """What people count a plan's columns in.

    unit:  "seconds", "pixels" or "latent". scale: units per column.
    """

    plan: ViewPlan
    unit: str = "latent"
    scale: float = 1.0

    def text(self, column: float) -> str:
        """A place or length in latent columns, as people read it."""
        return f"{column * self.scale:.5g} {SUFFIX[self.unit] or 'latent columns'}"

    @property
    def borders(self) -> list[int]:
        """Columns where the part of each view begins, and where that of the last ends: len(plan) + 1, ascending.

        Between two views it is the middle of what they share. The parts cover the canvas once; on a ring the first
        one begins after column 0 and the last ends after the canvas.
        """
        starts, view, length = self.plan.starts, self.plan.view, self.plan.length
        between = [(a + b + view) // 2 for a, b in zip(starts, starts[1:], strict=False)]
        if not self.plan.loop:
            return [0, *between, length]
        first = (starts[-1] - length + starts[0] + view) // 2
        return [first, *between, first + length]


@dataclass(frozen=True)
class Line:
    """One line of a timeline.

    number, written: its place in the text, from 1, and all of it. prompt: its text without the span. span: (first
    column, how many), around the ring of a loop; None for the default line.
    """

    number: int
    written: str
    prompt: str
    span: tuple[int, int] | None = None


def read_timeline(text: str, ruler: Ruler) -> list[Line]:
    """The lines of a timeline; empty ones are left out.

    `0-8: gentle rain` in the ruler's unit, which s or px may repeat; `2-3v: bells` or `2v: bells` in views, counted
    from 1, both included; `8-: rain` to the end, `-8: rain` from the start. Places are rounded to the nearest column.
    On a loop a span may wrap: `20-4`. `default: rain`, or a line without a span, is for what no span covers.

    Raises ValueError with the line's number and text for a span that cannot be read, ends before it starts, leaves
    the canvas or is shorter than a column, for a line without a prompt and for a second default.
    """
    numbered = [(number, written.strip()) for number, written in enumerate(text.splitlines(), 1)]
    lines = [_line(number, written, ruler) for number, written in numbered if written]
    if not lines:
        raise ValueError("Expected a timeline with at least one line such as `0-8: gentle rain`, got an empty one.")
    defaults = [line for line in lines if line.span is None]
    if len(defaults) > 1:
        first, second = (_name(line.number, line.written) for line in defaults[:2])
        raise ValueError(
            f"{second} is a second line without a span, after {first[0].lower()}{first[1:]}; give one of them a span "
            "such as `8-20:`, and write a long prompt on one line."
        )
    return lines


def prompt_weights(lines: list[Line], ruler: Ruler, fade: int = 0) -> tuple[list[str], torch.Tensor]:
    """How much each prompt weighs on each column: (prompts, weights [prompts, length], float32, columns sum to 1).

    Spans that cover the same column share it in equal parts, the default takes what no span covers, and then every
    weight is averaged over `fade` columns around its own: two neighbours cross-fade linearly, centred on their
    border, over so many columns. On a ring the average goes around; on an open canvas the ends go on outside of it.
    Lines with the same text are one prompt. Prompts that weigh nowhere are left out.

    Raises ValueError where neither a span nor a default covers the canvas.
    """
    length = ruler.plan.length
    covers = {}
    for line in lines:
        if line.span is not None:
            first, columns = line.span
            covers[line] = torch.zeros(length, dtype=torch.float64)
            covers[line][torch.arange(first, first + columns) % length] = 1
    count = sum(covers.values(), torch.zeros(length, dtype=torch.float64))
    defaults = [line for line in lines if line.span is None]
    if not defaults and not count.all():
        raise ValueError(_uncovered(count == 0, ruler))
    shares: dict[str, torch.Tensor] = {}
    for line in [*covers, *defaults]:
        share = covers[line] / count.clamp_min(1) if line in covers else (count == 0).double()
        shares[line.prompt] = shares.get(line.prompt, 0) + share
    used = {prompt: share for prompt, share in shares.items() if share.any()}
    weights = _moving_mean(torch.stack(list(used.values())), fade, ruler.plan.loop)
    return list(used), weights.float()


def prompts_of_views(weights: torch.Tensor, plan: ViewPlan) -> torch.Tensor:
    """Which views see which prompts: [prompts, len(plan)], bool."""
    return (weights[:, plan.columns] > 0).any(-1)


def prompt_of_views(lines: list[Line], prompts: list[str], weights: torch.Tensor, plan: ViewPlan) -> torch.Tensor:
    """The one prompt that weighs most on each view, of equal ones the first: indices into prompts, [len(plan)], int64.

    Raises ValueError for a line with a span whose prompt no view takes.
    """
    weight = weights.double()[:, plan.columns].mean(-1)
    chosen = (weight * 1e6).round().argmax(0)  # equal weights must not be told apart by a rounding error
    for line in lines:
        if line.span is not None and prompts.index(line.prompt) not in chosen:
            raise ValueError(
                f"{_name(line.number, line.written)} weighs most on none of the {len(plan)} views, so that it would "
                "not be heard or seen; make its span longer, plan more views, or blend by columns."
            )
    return chosen


def weights_of_views(chosen: torch.Tensor, prompts: int, plan: ViewPlan) -> torch.Tensor:
    """Share of the views on each column that take each prompt: [prompts, length], float32, columns sum to 1."""
    taken = torch.nn.functional.one_hot(chosen, prompts).T.float().repeat_interleave(plan.view, 1)
    return taken.new_zeros(prompts, plan.length).index_add_(1, plan.columns.flatten(), taken) / plan.coverage


def _name(number: int, written: str) -> str:
    return f"Line {number} ({written if len(written) <= 60 else written[:57] + '...'})"


def _line(number: int, written: str, ruler: Ruler) -> Line:
    name, span = _name(number, written), None
    place, colon, prompt = written.partition(":")
    place = " ".join(place.split())
    if colon and place.lower() == "default":
        pass
    elif colon and (match := _VIEW.fullmatch(place)):
        span = _views(match[1], match[1], name, ruler)
    elif colon and (match := _SPAN.fullmatch(place)):
        span = _span(match[1], match[2], match[3], match[4], name, ruler)
    elif _LIKE_A_SPAN.match(" ".join(written.split())):
        raise ValueError(
            f"{name} begins like a span but cannot be read; expected for example `0-8: gentle rain`, `2-3v: bells` "
            "for views, or `default: ...` where the prompt itself begins so."
        )
    else:
        prompt = written
    if not prompt.strip():
        raise ValueError(f"{name} has no prompt; write one after the colon or remove the line.")
    return Line(number, written, prompt.strip(), span)


def _span(
    first: str | None, first_unit: str | None, last: str | None, last_unit: str | None, name: str, ruler: Ruler
) -> tuple[int, int]:
    """(first column, how many) of a span with these ends as written, None where one is open."""
    units = {unit.lower() for unit in (first_unit, last_unit) if unit}
    suffix = SUFFIX[ruler.unit]
    if first is None and last is None:
        raise ValueError(f"{name} has a dash but no number; expected for example `0-8: gentle rain`.")
    if units == {"v"}:
        return _views(first or "1", last or str(len(ruler.plan)), name, ruler)
    if units - {suffix}:
        known = f"{suffix}, v" if suffix else "v"
        raise ValueError(
            f"{name} counts in {' and '.join(sorted(units))}, but the plan counts in "
            f"{ruler.unit if suffix else 'latent columns'}; use {known} or no suffix, the same at both ends."
        )
    length, loop = ruler.plan.length, ruler.plan.loop
    a = 0.0 if first is None else float(first) / ruler.scale
    b = float(length) if last is None else float(last) / ruler.scale
    if max(a, b) >= length + 0.5:
        wrap = "; on a loop a span goes on at the start, as in `20-4`" if loop else ""
        raise ValueError(f"{name} lies outside the canvas, which is {ruler.text(length)} long{wrap}.")
    if b < a and not loop:
        raise ValueError(f"{name} ends before it starts, and the canvas is no loop; swap its ends.")
    start, end = math.floor(a + 0.5), math.floor(b + 0.5)
    columns = end - start + (length if b < a else 0)
    if columns < 1:
        raise ValueError(f"{name} is shorter than one latent column ({ruler.text(1)}); make it longer.")
    return start % length, columns


def _views(first: str, last: str, name: str, ruler: Ruler) -> tuple[int, int]:
    """(first column, how many) of views `first` to `last`, both included, counted from 1."""
    count, length = len(ruler.plan), ruler.plan.length
    if not all(number.isdecimal() and 1 <= float(number) <= count for number in (first, last)):
        raise ValueError(f"{name} counts in views; expected whole numbers from 1 to {count}, the views of the plan.")
    i, j = int(first) - 1, int(last)
    wraps = j <= i
    if wraps and not ruler.plan.loop:
        raise ValueError(f"{name} ends before it starts, and the canvas is no loop; swap its ends.")
    borders = ruler.borders
    return borders[i] % length, borders[j] - borders[i] + (length if wraps else 0)


def _uncovered(free: torch.Tensor, ruler: Ruler) -> str:
    """The error about the first stretch without a prompt. free: columns that no line covers, [length] bool."""
    first = int(torch.nonzero(free)[0])
    taken = torch.nonzero(~free[first:])
    last = first + int(taken[0]) if len(taken) else len(free)
    return (
        f"Expected prompts for the whole canvas, but no line covers {ruler.text(first)} to {ruler.text(last)}; let a "
        "span reach there, or add a line `default: ...`."
    )


def _moving_mean(shares: torch.Tensor, columns: int, loop: bool) -> torch.Tensor:
    """Mean over `columns` columns around each: [N, length] -> [N, length]. An even window halves its two ends."""
    if columns < 2:
        return shares
    reach, length = columns // 2, shares.shape[1]
    around = torch.arange(-reach, length + reach)
    padded = shares[:, around % length if loop else around.clamp(0, length - 1)]
    taps = torch.ones(1, 1, 2 * reach + 1, dtype=shares.dtype)
    if columns % 2 == 0:
        taps[..., [0, -1]] = 0.5
    return torch.nn.functional.conv1d(padded.unsqueeze(1), taps / columns).squeeze(1)
