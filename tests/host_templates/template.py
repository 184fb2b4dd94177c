"""A template of the host, and what its loaders open or what stands in for them."""

from dataclasses import dataclass, field

from safa_pack.tests import tiny_files
from safa_pack.tests.host_templates.graphs import edited

TEXTS = {"width": tiny_files.WIDTH, "pooled": tiny_files.POOLED, "kind": ""}
SEED = {"*": {"seed": 5, "noise_seed": 5, "steps": 2}}


def seconds(columns, each):
    """The length of this many latent columns, and a little: some of the host's nodes round down."""
    return columns * each + 1e-6


def texts(*loaders, **sizes):
    """Stand-ins for text encoders that have one size, of billions of weights."""
    return {loader: ("StandInTexts", TEXTS | sizes) for loader in loaders}


STAND_INS = {
    "StandInModel": "model of the host's class",
    "StandInTexts": "stand-in texts",
    "StandInControl": "control of the host's class",
    "StandInVAE": "stand-in VAE",
}


def _pairs(stand_ins):
    """(type, inputs) of all stand-ins, those for one output of a loader too."""
    for stand_in in stand_ins.values():
        yield from [stand_in] if isinstance(stand_in, tuple) else stand_in.values()


@dataclass(frozen=True)
class Template:
    """One of the host's templates.

    files: by folder/name, what writes the tiny file that its loader opens. stand_ins: as `graphs.replaced` takes them.
    edits: as `graphs.edited` takes them, beside seed and steps. mix: what else is in it. sizes: the nodes that say how
    long the canvas is. unit, view, across: of the plan, and how high a picture is. scale: of a latent column, in unit.
    picture: the canvas is a picture that a VAE encodes, so that no run of a part has the same conditions. slow: for the
    tests, as its nodes work on a megapixel. graph: the prompt itself, where the host's nodes have no template.
    """

    name: str
    family: str
    files: dict
    stand_ins: dict = field(default_factory=dict)
    edits: dict = field(default_factory=dict)
    mix: str = ""
    sizes: tuple = ()
    unit: str = "pixels"
    view: float = 64
    across: int = 64
    scale: float = 8
    axis: int = -1
    picture: bool = False
    slow: bool = False
    graph: dict | None = None

    @property
    def loaded(self):
        """What comes out of files by the host's loaders, and what stands in, for people."""
        kinds = [kind for kind, _ in _pairs(self.stand_ins)]
        standing = [text for kind, text in STAND_INS.items() if kind in kinds]
        return ", ".join(["files" if self.files else "", *standing]).strip(", ")

    def prompt(self, found, length):
        """The template's prompt `found` with its edits, for a canvas of this length."""
        size = {"seconds": length} if self.unit == "seconds" else {"width": length, "height": self.across}
        sizes = {kind: size for kind in self.sizes}
        pictures = {"LoadImage": {"image": f"{length:g}x{self.across}.png"}}
        return edited(edited(edited(edited(found, SEED), sizes), pictures), self.edits)
