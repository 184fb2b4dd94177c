"""What is measured: protocols, each a JSON file in protocols/ named after its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from ..safa_core import ViewPlan, plan_views
from .making.sampling import Sampling
from .options import PROTOCOLS, names

KINDS = ("audio", "image", "pocket")
SUBSETS = ("prompt", "position")
SEPARATOR = "/"  # the column "fd/average" is a row's "fd" over that of the row with method "average"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    title:    as the paper has it.
    method:   a name in methods.METHODS. "single" makes windows by themselves.
    length:   of the canvas, in seconds or pixels.
    overlap:  least share of a view, as in plan_views.
    rate, interval: as in Sampling.
    sweeps:   axes of the protocol that the row is a point of; None for all of them.
    """

    title: str
    method: str
    length: float
    overlap: float = 0.2
    rate: float = 0.3
    interval: int = 1
    sweeps: tuple[str, ...] | None = None

    @property
    def single(self) -> bool:
        """Whether the row is of windows by themselves."""
        return self.method == "single"

    @property
    def label(self) -> str:
        """Unique among what is generated; part of file names."""
        if self.single:
            return f"single-{self.length:g}"
        return f"{self.method}-{self.overlap:g}-{self.length:g}-rate{self.rate:g}-interval{self.interval}"


@dataclass(frozen=True)
class Part:
    """A protocol for one kind of model. Lengths are in seconds for sound and in pixels for pictures.

    rows:      of the table, in the paper's order.
    columns:   {score: title}, in the paper's order; names in scores.SCORES, or a ratio such as "fd/average".
    details:   {title: columns} of further tables.
    prompts:   of the canvases. left_out: how many more the paper has, which its text does not give. kinds: whether they
               are kinds of sounds that any model is asked for, in place of the prompts that a small model knows.
    seeds:     canvases per prompt and row. chunk: prompts made in one call.
    steps, guidance, eta, noise: as in Sampling.
    view:      length of a view; for sound the model's own window, however long it is, stands for this.
    height:    of pictures.
    loop:      canvases are rings.
    crop, hop: length and distance of the windows that are evaluated; on a ring they go round.
    regions:   pictures are compared with themselves by a random crop from each of so many equal regions, 0 for sound.
    reference: what the distances compare with: windows of the "model" itself (the rows of method "single"), "copies"
               (as many of these as a canvas has overlaps, and a second such set for the row itself), "real" clips, or
               "none".
    pairs:     random pairs of the reference's windows for the scores within a canvas.
    subsets:   scores are means over subsets by prompt, by position on the canvas, or both; () for all windows together.
    """

    kind: str
    rows: tuple[Row, ...]
    columns: dict[str, str]
    steps: int
    guidance: float
    view: float
    seeds: int
    crop: float = 0.0
    hop: float = 0.0
    details: dict[str, dict[str, str]] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    left_out: int = 0
    kinds: bool = False
    eta: float = 0.0
    noise: str = "view"
    height: int = 0
    loop: bool = False
    regions: int = 0
    reference: str = "none"
    pairs: int = 1000
    subsets: tuple[str, ...] = SUBSETS
    chunk: int = 1

    def __post_init__(self):
        for name in ("seeds", "pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, got {getattr(self, name)}.")
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels) or not labels:
            raise ValueError(f"Expected different rows, got {', '.join(labels) or 'none'}.")
        for row in self.rows:
            if row.length <= 0:
                raise ValueError(f"Expected lengths above 0, got {row.length:g} for {row.title}.")
            self.sampling(row)

    def sampling(self, row: Row, record: int = 0) -> Sampling:
        """How a row's canvases are sampled."""
        return Sampling(self.steps, self.guidance, self.eta, self.noise, row.rate, row.interval, record)

    def plan(self, row: Row, columns: Callable[[float, float], int]) -> ViewPlan:
        """Where the views lie on a row's canvas; columns: WindowModel.columns."""
        length = columns(row.length, self.view)
        if row.single:
            return ViewPlan((0,), length, length)
        return plan_views(length, columns(self.view, self.view), row.overlap, self.loop)

    @property
    def single(self) -> Row | None:
        """The row of windows by themselves."""
        return next((row for row in self.rows if row.single), None)

    @property
    def scores(self) -> list[str]:
        """Names of the scores in all tables."""
        columns = dict(self.columns)
        for more in self.details.values():
            columns |= more
        return [name for name in columns if SEPARATOR not in name]

    def settings(self) -> dict:
        """What a canvas depends on besides its row, prompt and seed."""
        names = ("kind", "steps", "guidance", "eta", "noise", "view", "height", "loop")
        return {name: getattr(self, name) for name in names} | {"prompts": list(self.prompts)}

    def shrunk(self, factor: int) -> Part:
        """The same with pictures so many times smaller (ValueError for sound, whose lengths follow the model)."""
        if factor == 1:
            return self
        if self.kind != "image":
            raise ValueError(f"Expected a shrink of 1 for sound, whose lengths are the model's, got {factor}.")
        lengths = {name: getattr(self, name) / factor for name in ("view", "crop", "hop")}
        rows = tuple(replace(row, length=row.length / factor) for row in self.rows)
        return replace(self, rows=rows, height=self.height // factor, **lengths)

    def lengthened(self, length: float) -> Part:
        """The same with every canvas but the single windows so long."""
        return replace(self, rows=tuple(row if row.single else replace(row, length=length) for row in self.rows))


@dataclass(frozen=True)
class Protocol:
    """One table or figure.

    title: what it is. source: where in the paper. unstated: what the paper does not say, and what is done here.
    parts: by kind of model. axes: {field of Row that a figure sweeps: its name on the plot}; empty for tables.
    panels: the scores that a sweep draws; empty for all columns.
    claims: what the paper says of them; see claims.py.
    """

    name: str
    title: str
    source: str
    parts: dict[str, Part]
    unstated: tuple[str, ...] = ()
    axes: dict[str, str] = field(default_factory=dict)
    panels: tuple[str, ...] = ()
    claims: tuple[dict, ...] = ()

    @property
    def pocket(self) -> bool:
        """Whether the protocol is for the pocket model."""
        return "pocket" in self.parts

    def part(self, kind: str) -> Part:
        """The protocol for this kind of model (ValueError where the paper has none)."""
        if kind not in self.parts:
            wanted = " or ".join(f"an {name} model" for name in self.parts)
            raise ValueError(f"Expected {wanted} for protocol {self.name}, got an {kind} model.")
        return self.parts[kind]


def load(name: str) -> Protocol:
    """A protocol by name (ValueError for one that is not there)."""
    return parse(name, _content(name))


def _content(name: str) -> dict:
    """A file's content. What a part does not say is as in the protocol that it names as `like`."""
    if name not in names():
        raise ValueError(f"Expected a protocol of {', '.join(names())}, got {name!r}.")
    content = json.loads((PROTOCOLS / f"{name}.json").read_text(encoding="utf-8"))
    for kind in KINDS:
        part = content.get(kind, {})
        if "like" in part:
            content[kind] = _content(part.pop("like"))[kind] | part
    return content


def parse(name: str, content: dict) -> Protocol:
    """A protocol from a file's content; ValueError for keys that mean nothing."""
    parts = {kind: _part(kind, content[kind], name) for kind in KINDS if kind in content}
    rest = {key: value for key, value in content.items() if key not in KINDS}
    return _known(Protocol, name, name=name, parts=parts, **rest)


def _part(kind: str, content: dict, name: str) -> Part:
    rows = tuple(_known(Row, name, **row) for row in content["rows"])
    return _known(Part, name, **content | {"kind": kind, "rows": rows})


def _known(kind: type, protocol: str, /, **given):
    """kind(**given) with tuples for lists; ValueError for keys that are no fields of it."""
    names = {part.name for part in fields(kind)}
    unknown = set(given) - names
    if unknown:
        raise ValueError(
            f"Expected the keys {', '.join(sorted(names))} in protocol {protocol}, got {', '.join(unknown)}."
        )
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
