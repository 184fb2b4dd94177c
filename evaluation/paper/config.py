"""What the paper's tables and figures measure: protocols, each a JSON file in protocols/ named after its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ...safa_core import ViewPlan, plan_views

FOLDER = Path(__file__).parent / "protocols"
KINDS = ("audio", "image")
SUBSETS = ("prompt", "position")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    title:    as the paper has it.
    method:   a name in methods.METHODS. "single" makes windows by themselves.
    length:   of the canvas, in seconds or pixels.
    overlap:  least share of a view, as in plan_views.
    rate:     share of the early steps that have the method's own: SaFa's reference, Merge-Attend-Diffuse's merging,
              SyncDiffusion's gradient.
    interval: of the swaps.
    """

    title: str
    method: str
    length: float
    overlap: float = 0.2
    rate: float = 0.3
    interval: int = 1

    @property
    def label(self) -> str:
        """Unique among what is generated; part of file names."""
        if self.method == "single":
            return f"single-{self.length:g}"
        return f"{self.method}-{self.overlap:g}-{self.length:g}-rate{self.rate:g}-interval{self.interval}"


@dataclass(frozen=True)
class Part:
    """A protocol for one kind of model. Lengths are in seconds for sound and in pixels for pictures.

    rows, columns: of the table, in the paper's order; columns are names in scores.SCORES with the paper's titles.
    prompts:   of the canvases. left_out: how many more the paper has, which its text does not give.
    seeds:     canvases per prompt and row.
    steps, guidance, eta: DDIM's steps, classifier-free guidance scale and noise.
    view:      length of a view; for sound the model's own window, however long it is, stands for this.
    height:    of pictures.
    loop:      canvases are rings.
    crop, hop: length and distance of the windows that are evaluated; on a ring they go round.
    regions:   pictures are compared with themselves by a random crop from each of so many equal regions, 0 for sound.
    reference: what the Fréchet distances compare with: windows of the "model" itself (the rows of method "single"),
               "real" clips, or "none".
    pairs:     random pairs of the reference's windows for the scores within a canvas.
    subsets:   scores are means over subsets by prompt, by position on the canvas, or both.
    """

    kind: str
    rows: tuple[Row, ...]
    columns: dict[str, str]
    steps: int
    guidance: float
    view: float
    crop: float
    hop: float
    seeds: int
    prompts: tuple[str, ...] = ()
    left_out: int = 0
    eta: float = 0.0
    height: int = 0
    loop: bool = False
    regions: int = 0
    reference: str = "none"
    pairs: int = 1000
    subsets: tuple[str, ...] = SUBSETS

    def __post_init__(self):
        for name in ("steps", "seeds", "pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, got {getattr(self, name)}.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"Expected `eta` in [0, 1], got {self.eta}.")
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels) or not labels:
            raise ValueError(f"Expected different rows, got {', '.join(labels) or 'none'}.")

    def settings(self) -> dict:
        """What a canvas depends on besides its row, prompt and seed."""
        own = ("kind", "steps", "guidance", "eta", "view", "height", "loop")
        return {name: getattr(self, name) for name in own} | {"prompts": list(self.prompts)}

    def shrunk(self, factor: int) -> Part:
        """The same with pictures so many times smaller (ValueError for sound, whose lengths follow the model)."""
        if factor == 1:
            return self
        if self.kind != "image":
            raise ValueError(f"Expected a shrink of 1 for sound, whose lengths are the model's, got {factor}.")
        lengths = {name: getattr(self, name) / factor for name in ("view", "crop", "hop")}
        rows = tuple(replace(row, length=row.length / factor) for row in self.rows)
        return replace(self, rows=rows, height=self.height // factor, **lengths)


@dataclass(frozen=True)
class PaperProtocol:
    """One table or figure.

    title: what it is. source: where in the paper. unstated: what the paper does not say, and what is done here.
    parts: by kind of model. axis: the field of Row that a figure sweeps, with its name on the plot; None for tables.
    """

    name: str
    title: str
    source: str
    parts: dict[str, Part]
    unstated: tuple[str, ...] = ()
    axis: tuple[str, str] | None = field(default=None)

    def part(self, kind: str) -> Part:
        """The protocol for this kind of model (ValueError where the paper has none)."""
        if kind not in self.parts:
            wanted = " or ".join(f"an {name} model" for name in self.parts)
            raise ValueError(f"Expected {wanted} for protocol {self.name}, got an {kind} model.")
        return self.parts[kind]


def names() -> list[str]:
    """The protocols at hand, tables first."""
    return sorted((path.stem for path in FOLDER.glob("*.json")), key=lambda name: (not name.startswith("table"), name))


def load(name: str) -> PaperProtocol:
    """A protocol by name (ValueError for one that is not there)."""
    if name not in names():
        raise ValueError(f"Expected a protocol of {', '.join(names())}, got {name!r}.")
    return parse(name, json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def parse(name: str, content: dict) -> PaperProtocol:
    """A protocol from a file's content; ValueError for keys that mean nothing."""
    _check_keys(content, {"title", "source", "unstated", "axis", *KINDS}, name)
    parts = {kind: _part(kind, content[kind], name) for kind in KINDS if kind in content}
    axis = tuple(content["axis"]) if "axis" in content else None
    return PaperProtocol(name, content["title"], content["source"], parts, tuple(content.get("unstated", ())), axis)


def _part(kind: str, content: dict, name: str) -> Part:
    _check_keys(content, {part.name for part in fields(Part)}, name)
    for row in content["rows"]:
        _check_keys(row, {part.name for part in fields(Row)}, name)
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    return Part(kind=kind, **content | lists | {"rows": tuple(Row(**row) for row in content["rows"])})


def _check_keys(given: dict, known: set[str], name: str) -> None:
    unknown = set(given) - known
    if unknown:
        raise ValueError(f"Expected the keys {', '.join(sorted(known))} in protocol {name}, got {', '.join(unknown)}.")


def plan(row: Row, part: Part, columns) -> ViewPlan:
    """Where the views lie on a row's canvas; columns: length in the protocol's unit -> latent columns."""
    length = columns(row.length)
    if row.method == "single":
        return ViewPlan((0,), length, length)
    return plan_views(length, columns(part.view), row.overlap, part.loop)
