"""What is measured: protocols, each a JSON file in protocols/ named after its own."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from ..safa_core import ViewPlan, plan_views

FOLDER = Path(__file__).parent / "protocols"
NOISE = ("view", "canvas")
# The single window's best setting of `--tune`, for every protocol that names no other.
STEPS, GUIDANCE = 25, 3.5


@dataclass(frozen=True)
class Arm:
    """One line of a table.

    method:  a name in methods.METHODS. "single" makes native windows, as many as the others have overlaps, twice.
    overlap: share of a view, as in plan_views.
    windows: the loop is as long as so many views at overlap 0.2, whatever the arm's own overlap is.
    seconds: the loop's length instead of `windows`.
    grid:    views begin on multiples of so many latent columns; the loop is as much shorter or longer as that takes.
    rate, interval: of the swaps, instead of the protocol's.
    """

    method: str
    overlap: float = 0.2
    windows: int = 3
    seconds: float | None = None
    grid: int = 1
    rate: float | None = None
    interval: int | None = None

    def plan(self, view: int, columns_per_second: float) -> ViewPlan:
        """The loop for a model with native windows of `view` columns."""
        if self.method == "single":
            return ViewPlan((0,), view, view)
        if self.seconds is not None:
            length = round(self.seconds * columns_per_second)
        else:
            length = self.windows * (view - math.ceil(0.2 * view))
        if self.grid > 1:
            hop = (view - math.ceil(self.overlap * view)) // self.grid * self.grid
            length = hop * round(length / hop)
        return plan_views(length, view, self.overlap, loop=True)

    @property
    def label(self) -> str:
        """Unique within a protocol; part of file names."""
        if self.method == "single":
            return "single"
        length = f"{self.windows}w" if self.seconds is None else f"{self.seconds:g}s"
        swaps = [f"-{name}{value:g}" for name, value in self.swaps.items()]
        return f"{self.method}-{self.overlap:g}-{length}" + "".join(swaps)

    @property
    def swaps(self) -> dict[str, float | int]:
        """What the arm sets of the protocol's rate and interval."""
        given = {"rate": self.rate, "interval": self.interval}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Protocol:
    """arms on the same prompts and noise.

    steps, guidance: DDIM steps and classifier-free guidance scale.
    eta:    of DDIM; above 0 every step adds noise.
    noise:  drawn for every "view", as Algorithm 1 has it with the whole step inside the view, or once for the "canvas".
    rate, interval: of the swaps; `rate` is also the share of steps in which Merge-Attend-Diffuse merges.
    seeds:  per class; each has its own caption.
    record: also keep the canvas before every `record`-th step; 0 for none.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    steps: int = STEPS
    guidance: float = GUIDANCE
    eta: float = 0.0
    noise: str = "view"
    rate: float = 0.3
    interval: int = 1
    seeds: int = 3
    record: int = 0

    def __post_init__(self):
        for name in ("steps", "seeds", "interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, got {getattr(self, name)}.")
        for arm in self.arms:
            if arm.windows < 2 or (arm.seconds is not None and arm.seconds <= 0):
                raise ValueError(f"Expected loops of at least 2 windows, or of more than 0 seconds, got {arm}.")
        if self.noise not in NOISE:
            raise ValueError(f"Expected `noise` to be one of {', '.join(NOISE)}, got {self.noise!r}.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"Expected `eta` in [0, 1], got {self.eta}.")
        labels = [arm.label for arm in self.arms]
        if len(set(labels)) < len(labels) or not labels:
            raise ValueError(f"Expected different arms, got {', '.join(labels) or 'none'}.")

    def settings(self) -> dict:
        """What an arm's results depend on besides the arm and the seed."""
        return {key: value for key, value in asdict(self).items() if key not in ("title", "seeds", "arms")}


def names() -> list[str]:
    """The protocols at hand."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str, **changes) -> Protocol:
    """A protocol by name, with fields changed; `windows` changes every arm that is not given in seconds."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"Expected a protocol of {', '.join(names())}, got {name!r}.")
    return parse(name, json.loads(path.read_text(encoding="utf-8")), **changes)


def parse(name: str, content: dict, windows: int | None = None, **changes) -> Protocol:
    """A protocol from a file's content; ValueError for keys that mean nothing."""
    for given, kind in [(content, Protocol), *((arm, Arm) for arm in content["arms"])]:
        unknown = set(given) - {part.name for part in fields(kind)}
        if unknown:
            raise ValueError(f"Expected the keys of {kind.__name__} in protocol {name}, got {', '.join(unknown)}.")
    arms = tuple(Arm(**arm) for arm in content["arms"])
    if windows is not None:
        arms = tuple(replace(arm, windows=windows) for arm in arms)
    return Protocol(name=name, **content | {"arms": arms} | changes)


@dataclass(frozen=True)
class Piece:
    """One chunk of work: some classes of one seed, made by one arm in one batch."""

    arm: Arm
    seed: int
    classes: tuple[str, ...] = field(default=())

    @property
    def key(self) -> str:
        """Unique within a run."""
        return f"{self.arm.label}-seed{self.seed}-{self.classes[0]}"


def pieces(protocol: Protocol, classes: tuple[str, ...], chunk: int) -> list[list[Piece]]:
    """All the work, in rounds: after a whole round every arm has made the same prompts."""
    if chunk < 1:
        raise ValueError(f"Expected `chunk` of at least 1 class, got {chunk}.")
    groups = [classes[i : i + chunk] for i in range(0, len(classes), chunk)]
    return [[Piece(arm, seed, group) for arm in protocol.arms] for seed in range(protocol.seeds) for group in groups]
