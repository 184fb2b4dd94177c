"""Every node of the host that patches a MODEL or makes a GUIDER, before and after the patch, and with a reference.

The list is the host's own; a node that the table does not know fails.
"""

from dataclasses import dataclass
from itertools import product

import pytest
import torch

import comfy.sample
import comfy.samplers
import comfy.utils
import folder_paths
from comfy.model_patcher import ModelPatcher

from safa_pack.bootstrap import ROOT
from safa_pack.nodes.canvas import Canvas, Guide
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.safa_core import SwapJoin
from safa_pack.tests.nodes.host_calls import SCHEDULER, SEED, cfg_guider, difference, separate_by
from safa_pack.tests.nodes.host_list import host_list
from safa_pack.tests.nodes.joint.mixes import node_inputs
from safa_pack.tests.nodes.joint.mixes.node_inputs import kept
from safa_pack.tests.nodes.joint.mixes.patching_nodes import (
    EQUAL,
    FAMILIES,
    NOTHING,
    REFUSED,
    ROWS,
    UNLIKE_MERGES,
    WHOLE,
    PerWindow,
)
from safa_pack.tests.nodes.joint.mixes.whole_canvas import guided_whole, joining

pytestmark = pytest.mark.host

GUIDE, WHO = Guide(0.5, 1, "rows"), "SaFa Model Patch"
PLACES_OF_INPUTS = ("required", "optional")
IN_WORDS = {  # the README's names, where they are not the host's
    "APG": "Adaptive Projected Guidance",
    "CFGZeroStar": "CFG-Zero\\*",
    "LatentApplyOperationCFG": "Latent Apply Operation CFG",
    "PerpNeg": "Perp-Neg",
    "PerpNegGuider": "Perp-Neg",
    "SelfAttentionGuidance": "Self-Attention Guidance",
    "SkipLayerGuidanceDiT": "Skip Layer Guidance where it rescales",
    "ContextWindowsManual": "Context Windows",
    "LTXVContextWindows": "Context Windows",
    "WanContextWindowsManual": "Context Windows",
    "WanInfiniteTalkToVideo": "InfiniteTalk",
}
PLAIN, RESULTS = {}, {}


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A LoRA and a hypernetwork where the host looks for them."""
    folder = tmp_path_factory.mktemp("weights")
    comfy.utils.save_torch_file(node_inputs.lora(), str(folder / "lora.safetensors"))
    torch.save(node_inputs.hypernetwork(), folder / "hypernetwork.pt")
    for kind in ("loras", "hypernetworks"):
        folder_paths.add_model_folder_path(kind, str(folder))


def is_patching(node):
    """MODEL in, MODEL or GUIDER out."""
    given = node.INPUT_TYPES()
    taken = [str(value[0]).split(",") for place in PLACES_OF_INPUTS for value in given.get(place, {}).values()]
    return any("MODEL" in kinds for kinds in taken) and not {"MODEL", "GUIDER"}.isdisjoint(node.RETURN_TYPES)


def patching(nodes):
    """The names of the host's own nodes that patch a model."""
    return {name for name, node in nodes.items() if is_patching(node) and not name.startswith("SaFa")}


def test_every_node_of_the_host_is_in_the_table():
    names = patching(host_list())
    unknown, gone = sorted(names - ROWS.keys()), sorted(ROWS.keys() - names)
    assert not unknown, (
        f"nodes of the host that patch models and are not in ROWS of patching_nodes.py; put them there: {unknown}"
    )
    assert not gone, f"ROWS of patching_nodes.py has nodes that the host lacks; take them out: {gone}"


def test_a_new_node_of_the_host_turns_up():
    model_in, picture_in = ({"optional": {"it": (kind,)}} for kind in ("CLIP,MODEL", "IMAGE"))
    taken, given = ["MODEL", "GUIDER", "LATENT"], {}
    for place, kinds in (("in", model_in), ("out", picture_in)):
        for kind in taken:
            members = {"INPUT_TYPES": staticmethod(lambda kinds=kinds: kinds), "RETURN_TYPES": ("INT", kind)}
            given[f"{place} {kind}"] = type("New", (), members)
    assert patching(given) == {"in MODEL", "in GUIDER"}


# ---- One node ----


@dataclass(frozen=True)
class Cut:
    """Cuts what a node holds, of the canvas's size: the piece of one window, or nothing.

    window: a view's number, of the reference its number; None for the whole canvas.
    """

    canvas: Canvas
    window: int | None = None

    def __call__(self, tensor, zoom=1, axis=-1):
        """The piece of a tensor with `zoom` columns for one latent column."""
        if self.window is None:
            return tensor
        columns = self.canvas.plan.indices(0 if self.of_reference else self.window)
        return tensor.index_select(axis, (columns[:, None] * zoom + torch.arange(zoom)).flatten())

    @property
    def of_reference(self):
        return self.window == len(self.canvas.plan)

    @property
    def pixels(self):
        """The width of a picture of the canvas, or of a view."""
        return 8 * (self.canvas.plan.length if self.window is None else self.canvas.plan.view)


def defaults(node):
    """A node's inputs as they stand when it is put on a graph."""
    values = {}
    for place in PLACES_OF_INPUTS:
        for name, (kind, *options) in node.INPUT_TYPES().get(place, {}).items():
            options = options[0] if options else {}
            choices = kind if isinstance(kind, list) else options.get("options", [])
            if "default" in options:
                values[name] = options["default"]
            elif choices:
                values[name] = choices[0]
    return values


class Mix:
    """One node of the host on one family's tiny model."""

    def __init__(self, node, row):
        self.node, self.row, self.family = node, row, FAMILIES[row.family]
        self.canvas = self.family.canvas
        self._alone = None
        self.options = dict(steps=row.steps, batch=self.family.shape[0])

    @property
    def is_guider(self):
        return "GUIDER" in self.node.RETURN_TYPES

    def guider(self, install=None, behind=False, window=None):
        """A guider of the model with the node, and with what `install` puts on it before or behind the node."""
        install = install or (lambda model: model)
        if behind or self.is_guider:
            outputs = self._run(install(kept(self.family.make())), window)
        else:
            outputs = self._on_the_model_alone(window)
        if self.is_guider:
            return outputs["GUIDER"][0]
        model = outputs["MODEL"][0]
        model = kept(model if behind else install(model))
        return cfg_guider(model, *outputs.get("CONDITIONING", self.row.prompts()), self.row.cfg)

    def _on_the_model_alone(self, window):
        """The node's outputs for the model without SaFa; some take seconds."""
        if self.row.is_per_window:
            return self._run(kept(self.family.make()), window)
        if self._alone is None:
            self._alone = self._run(kept(self.family.make()), None)
        return self._alone

    def _run(self, model, window):
        """The node's outputs by type."""
        node, given = self.node, self.node.INPUT_TYPES()["required"]
        inputs = defaults(node)
        cut = Cut(self.canvas, window)
        for name, value in self.row.inputs.items():
            if isinstance(value, PerWindow):
                value = value.make(cut)
            inputs[name] = value() if callable(value) else value
        inputs[next(name for name, value in given.items() if value[0] == "MODEL")] = model
        is_new = hasattr(node, "define_schema")
        out = node.execute(**inputs) if is_new else getattr(node(), node.FUNCTION)(**inputs)
        values = out if isinstance(out, tuple) else out.result
        outputs = {}
        for kind, value in zip(node.RETURN_TYPES, values, strict=True):
            outputs.setdefault(kind, []).append(value)
        return outputs

    def joint(self, guide, behind):
        """What SaFa makes of it."""
        patch = JointPatch(self.canvas, SwapJoin(), guide, WHO, finish_reference=True)
        return sample(self.guider(patch.install, behind), self.canvas, **self.options)

    def expected(self, guide):
        """What the host makes of every view alone, or of the canvas of joined predictions."""
        if self.row.verdict == EQUAL:
            same = None if self.row.is_per_window else self.guider()
            return separate_by(lambda i: same or self.guider(window=i), self.canvas, guide=guide, **self.options)
        of_canvas = self.guider(joining(self.canvas))
        return guided_whole(of_canvas, self.guider(), self.canvas, guide=guide, **self.options)


def sample(guider, canvas, steps, batch):
    """A guider's sampling of an empty canvas."""
    latent = torch.zeros(batch, *canvas.shape)
    noise = comfy.sample.prepare_noise(latent, SEED)
    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, SCHEDULER, steps)
    euler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, latent, euler, sigmas, disable_pbar=True, seed=SEED)


def without_node(row, guided):
    """The joint canvas of the row's model alone."""
    key = (row.family, row.cfg, row.steps, tuple(row.values), guided)
    if key not in PLAIN:
        family = FAMILIES[row.family]
        patch = JointPatch(family.canvas, SwapJoin(), GUIDE if guided else None, WHO, finish_reference=True)
        guider = cfg_guider(patch.install(kept(family.make())), *row.prompts(), row.cfg)
        PLAIN[key] = sample(guider, family.canvas, row.steps, family.shape[0])
    return PLAIN[key]


PLACES = list(product([None, GUIDE], [False, True]))


def compare(mix):
    """The largest relative difference, over all places of the node; it acts in all of them, or in none."""
    largest = 0.0
    wanted = {guide: mix.expected(guide) for guide in (None, GUIDE)} if mix.row.exact else {}
    for guide, behind in PLACES:
        out = mix.joint(guide, behind)
        assert torch.isfinite(out).all()
        if mix.row.exact:
            largest = max(largest, difference(out, wanted[guide]))
        acts = difference(out, without_node(mix.row, guide is not None)) > 1e-4
        assert acts == mix.row.acts, f"differs from the model without the node: {acts}"
    return largest


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.verdict in (EQUAL, WHOLE)])
def test_a_node_is_what_the_host_makes_of_it(name, files, monkeypatch):
    # what draws random numbers in the network draws other ones for each call of it
    monkeypatch.setattr(torch, "randint", lambda *args, size, **options: torch.zeros(size, dtype=torch.int64))
    # here each call is a sampling of its own, after which the host makes patches forget
    if ROWS[name].apart:
        monkeypatch.setattr(ModelPatcher, "model_patches_call_function", lambda *args, **options: None)
    mix = Mix(host_list()[name], ROWS[name])
    RESULTS[name] = compare(mix)
    assert RESULTS[name] <= 1e-5


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.verdict == REFUSED])
def test_a_node_is_refused_in_a_sentence(name):
    mix = Mix(host_list()[name], ROWS[name])
    for guide, behind in PLACES:
        with pytest.raises(ValueError, match="SaFa Model Patch: ") as caught:
            mix.joint(guide, behind)
        assert mix.row.why in str(caught.value)
    RESULTS[name] = str(caught.value)


def test_merges_differ_in_names_alone():
    of_blocks = host_list()["ModelMergeBlocks"].merge.__code__
    for name in (name for name, row in ROWS.items() if row.why == UNLIKE_MERGES):
        assert host_list()[name].merge.__code__ == of_blocks, name


def test_the_readme_names_what_reckons_with_the_whole_canvas_or_is_refused():
    limits = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Limits")[2]
    limits = " ".join(limits.partition("## More")[0].split())
    names = {name: IN_WORDS.get(name, name) for name, row in ROWS.items() if row.verdict in (WHOLE, REFUSED)}
    missing = [name for name, words in names.items() if words not in limits]
    assert not missing, f"README.md, Limits, does not name {missing}; IN_WORDS says how it may call them"


def test_table_of_the_nodes(capsys):
    nothing = {}
    with capsys.disabled():
        print(
            f"\n  {len(ROWS)} nodes of the host that patch a model, before and after SaFa, with a reference and without"
        )
        for name, row in sorted(ROWS.items(), key=lambda item: (item[1].verdict, item[0])):
            if row.verdict == NOTHING:
                nothing.setdefault(row.why, []).append(name)
                continue
            result = RESULTS.get(name, "")
            shown = f"{result:.1e}" if isinstance(result, float) and row.exact else ""
            print(f"  {name:30}{row.verdict:14}{row.family:14}{shown:9}{row.why}")
        for why, names in nothing.items():
            print(f"  {NOTHING}: {', '.join(names)}: {why}")
