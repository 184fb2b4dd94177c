"""Every kind of control that the host knows, against the host's own run of each view with its piece of the hint."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

import comfy.controlnet
import comfy.model_management
import comfy.utils
from comfy_extras.nodes_controlnet import ControlNetInpaintingAliMamaApply

import nodes as host_nodes
from safa_pack.nodes.canvas import Guide
from safa_pack.tests import tiny_controls, tiny_families, tiny_models
from safa_pack.tests.nodes.host_calls import canvas_of, difference, joint, separate

pytestmark = pytest.mark.host

CLASSES = {  # the host's, with the kinds below that are of them
    "ControlBase": set(),
    "ControlNet": {"SD1.5"},
    "ControlNetSD35": {"SD3.5"},
    "QwenFunControlNet": {"Qwen-Image Fun"},
    "ControlLora": {"Control-LoRA"},
    "T2IAdapter": {"T2I-Adapter"},
}
LOADERS = {  # the host's functions that make controls, likewise
    "load_controlnet": {"SD1.5, shuffle"},
    "load_controlnet_state_dict": {"SD1.5", "SDXL union"},
    "load_controlnet_mmdit": {"SD3", "SD3, inpaint"},
    "load_controlnet_sd35": {"SD3.5"},
    "load_controlnet_hunyuandit": {"HunyuanDiT"},
    "load_controlnet_flux_xlabs_mistoline": {"Flux XLabs", "Flux MistoLine"},
    "load_controlnet_flux_instantx": {"Flux union", "Flux, inpaint"},
    "load_controlnet_qwen_instantx": {"Qwen-Image", "Qwen-Image, inpaint"},
    "load_controlnet_qwen_fun": {"Qwen-Image Fun"},
    "load_t2i_adapter": {"T2I-Adapter", "T2I-Adapter, 16 pixels at once", "T2I-Adapter, 32 pixels a latent"},
}


@pytest.fixture(autouse=True)
def fresh():
    """No gradients; and no models of other tests, which the host would load again after it has encoded a hint."""
    comfy.model_management.current_loaded_models.clear()
    with torch.no_grad():
        yield


def prompt_sd3(seed):
    return tiny_models.conditioning("sd3", seed, tokens=16)


@dataclass(frozen=True)
class Kind:
    """A kind of control: functions that make it, a model, texts for that, and what encodes hints (None: nothing)."""

    make: Callable
    model: Callable = tiny_families.sd15
    prompt: Callable = tiny_families.prompt
    vae: Callable = lambda: None
    shape: tuple = (1, 4, 8, 28)
    pixels: int = 8  # of a hint, per latent
    masked: bool = False  # takes a mask beside the hint
    loop: bool = False
    tall: bool = False

    def canvas(self):
        shape = (*self.shape[:-2], self.shape[-1], self.shape[-2]) if self.tall else self.shape
        return canvas_of(shape, 12, loop=self.loop, axis=-2 if self.tall else -1)


def pictures_16():
    return tiny_controls.autoencoder(16)


def pictures_4():
    return tiny_controls.autoencoder(4)


FLUX = {"model": tiny_families.flux, "shape": (1, 16, 8, 28)}
SD3 = {"model": tiny_models.sd3, "prompt": prompt_sd3, "vae": pictures_16, "shape": (1, 16, 8, 28)}
QWEN = {"model": tiny_families.qwen_image, "vae": tiny_controls.video_autoencoder, "shape": (1, 16, 1, 8, 28)}
KINDS = {
    "SD1.5": Kind(tiny_controls.sd15, shape=(2, 4, 8, 28), loop=True),
    "SD1.5, inpaint": Kind(tiny_controls.sd15_inpaint, masked=True, loop=True),
    "SD1.5, shuffle": Kind(tiny_controls.sd15_shuffle),
    "SD1.5, bound on its object": Kind(tiny_controls.bound, tall=True),
    "SDXL union": Kind(tiny_controls.sdxl_union, tiny_families.sdxl, shape=(2, 4, 8, 28)),
    "Control-LoRA": Kind(tiny_controls.sd15_lora, shape=(2, 4, 8, 28), loop=True),
    "T2I-Adapter": Kind(tiny_controls.light_adapter, shape=(2, 4, 8, 28), loop=True),
    "T2I-Adapter, 16 pixels at once": Kind(tiny_controls.coarse_adapter, tall=True),
    "T2I-Adapter, 32 pixels a latent": Kind(tiny_controls.grey_adapter, pixels=32),
    "SD3": Kind(tiny_controls.sd3, **SD3),
    "SD3, inpaint": Kind(tiny_controls.sd3_inpaint, masked=True, **SD3),
    "SD3.5": Kind(tiny_controls.sd35, loop=True, **SD3),
    "Flux XLabs": Kind(tiny_controls.flux_xlabs, tall=True, **FLUX),
    "Flux MistoLine": Kind(tiny_controls.flux_mistoline, **FLUX),
    "Flux union": Kind(tiny_controls.flux_union, vae=pictures_16, **{**FLUX, "shape": (2, 16, 8, 28)}),
    "Flux, inpaint": Kind(tiny_controls.flux_inpaint, vae=pictures_16, masked=True, loop=True, **FLUX),
    "HunyuanDiT": Kind(tiny_controls.hunyuan_dit, tiny_families.hunyuan_dit, tiny_families.hunyuan_prompt, pictures_4),
    "Qwen-Image": Kind(tiny_controls.qwen, **QWEN),
    "Qwen-Image, inpaint": Kind(tiny_controls.qwen_inpaint, masked=True, tall=True, **QWEN),
    "Qwen-Image Fun": Kind(tiny_controls.qwen_fun, loop=True, **QWEN),
}


def test_every_class_of_controls_of_the_host_is_in_the_table():
    classes = {
        name
        for name, value in vars(comfy.controlnet).items()
        if isinstance(value, type) and issubclass(value, comfy.controlnet.ControlBase)
    }
    assert classes == CLASSES.keys(), (
        f"comfy/controlnet.py has the controls {sorted(classes)}, and this test knows {sorted(CLASSES)}: make a tiny "
        "one of each new class in tests/tiny_controls.py, put it into KINDS and CLASSES, and mend what goes wrong."
    )
    for name, kinds in CLASSES.items():
        for kind in kinds:
            assert type(KINDS[kind].make()).__name__ == name


def test_every_loader_of_controls_of_the_host_is_in_the_table():
    tree = ast.parse(inspect.getsource(comfy.controlnet))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    loaders = {name for name in names if name.startswith(("load_controlnet", "load_t2i"))}
    assert loaders == LOADERS.keys(), (
        f"comfy/controlnet.py loads controls by {sorted(loaders)}, and this test knows {sorted(LOADERS)}: make a tiny "
        "one of each new kind in tests/tiny_controls.py, put it into KINDS and LOADERS, and mend what goes wrong."
    )
    assert set().union(*LOADERS.values()) <= KINDS.keys()


# ---- Hints ----


def picture(canvas, batch=1, channels=3, pixels=8, seed=1):
    """An IMAGE of the canvas, [batch, height, width, channels]: noise whose first channel grows along the long axis."""
    height, width = (pixels * d for d in canvas.shape[-2:])
    image = torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(seed))
    along = torch.linspace(0, 1, pixels * canvas.plan.length)
    image[..., 0] = along if canvas.axis == len(canvas.shape) else along[:, None]
    return image


def piece(image, canvas, i, pixels=8):
    """View i of an IMAGE of the canvas, pixel by pixel."""
    length, first = canvas.plan.length * pixels, canvas.plan.starts[i] * pixels
    columns = [(first + p) % length for p in range(canvas.plan.view * pixels)]
    return image[:, :, columns] if canvas.axis == len(canvas.shape) else image[:, columns]


def apply(kind, hint, mask=None, net=None, **options):
    """The host's Apply ControlNet, or its inpainting form where there is a mask: (positive, negative)."""
    texts = kind.prompt(1), kind.prompt(99)
    net = kind.make() if net is None else net
    if mask is not None:
        node = ControlNetInpaintingAliMamaApply.execute
        return node(*texts, net, kind.vae(), hint, mask[..., 0], 0.8, 0.0, 1.0).result
    return host_nodes.ControlNetApplyAdvanced().apply_controlnet(*texts, net, hint, 0.8, 0.0, 1.0, vae=kind.vae())


@pytest.mark.parametrize("name", KINDS)
def test_every_view_gets_its_own_piece_of_the_hint_of(name):
    kind = KINDS[name]
    canvas, model, batch = kind.canvas(), kind.model(), kind.shape[0]
    hint = picture(canvas, batch, pixels=kind.pixels)
    mask = picture(canvas, 1, 1, seed=2).gt(0.5).float() if kind.masked else None

    def view(i):
        cut = [None if image is None else piece(image, canvas, i, kind.pixels) for image in (hint, mask)]
        return apply(kind, *cut)

    together = joint(model, canvas, *apply(kind, hint, mask), batch=batch, steps=1)
    assert difference(together, separate(model, canvas, view, batch=batch, steps=1)) <= 1e-5
    without = joint(model, canvas, kind.prompt(1), kind.prompt(99), batch=batch, steps=1)
    assert difference(without, together) > 1e-3


@pytest.mark.parametrize("name", ["Control-LoRA", "T2I-Adapter", "Qwen-Image Fun", "SD3.5"])
def test_the_reference_has_no_hint_of_a_place_on_the_canvas(name):
    kind = KINDS[name]
    canvas, model = kind.canvas(), kind.model()
    hint = picture(canvas)
    views = [apply(kind, piece(hint, canvas, i)) for i in range(len(canvas.plan))]
    views.append((kind.prompt(1), kind.prompt(99)))
    options = dict(guide=Guide(0.5, 1, "frames"), steps=2)
    together = joint(model, canvas, *apply(kind, hint), **options)
    assert difference(together, separate(model, canvas, views.__getitem__, **options)) <= 1e-5


@pytest.mark.parametrize(
    ("first", "second"), [("SD1.5", "T2I-Adapter"), ("Control-LoRA", "SD1.5, bound on its object")]
)
def test_controls_of_two_kinds_in_a_chain(first, second):
    canvas, model = canvas_of((1, 4, 8, 28), 12, loop=True), tiny_families.sd15()
    nets = KINDS[first].make(), KINDS[second].make()
    hints = picture(canvas), picture(canvas, seed=3)

    def chain(one, two):
        node = host_nodes.ControlNetApplyAdvanced().apply_controlnet
        once = node(tiny_families.prompt(1), tiny_families.prompt(99), nets[0], one, 0.5, 0.0, 0.6)
        return node(*once, nets[1], two, 1.2, 0.4, 1.0)

    together = joint(model, canvas, *chain(*hints), steps=3)
    apart = separate(model, canvas, lambda i: chain(*(piece(hint, canvas, i) for hint in hints)), steps=3)
    assert difference(together, apart) <= 1e-5


@pytest.mark.parametrize("name", ["T2I-Adapter", "Qwen-Image", "Flux, inpaint"])
def test_a_hint_of_another_size_lies_on_the_canvas_as_the_host_lays_it(name):
    """Scaled and centre-cropped to the canvas, once; then cut."""
    kind = KINDS[name]
    canvas, model = kind.canvas(), kind.model()
    hint = torch.rand(1, 40, 320, 3, generator=torch.Generator().manual_seed(1))
    height, width = (8 * size for size in canvas.shape[-2:])
    laid = comfy.utils.common_upscale(hint.movedim(-1, 1), width, height, "nearest-exact", "center").movedim(1, -1)
    together = joint(model, canvas, *apply(kind, hint), steps=1)
    apart = separate(model, canvas, lambda i: apply(kind, piece(laid, canvas, i)), steps=1)
    assert difference(together, apart) <= 1e-5


def test_the_old_apply_node_gives_the_hint_to_the_negative_too():
    kind = KINDS["SD1.5, bound on its object"]
    canvas, model = kind.canvas(), kind.model()
    hint = picture(canvas)

    def applied(hint):
        return host_nodes.ControlNetApply().apply_controlnet(kind.prompt(1), kind.make(), hint, 0.8)[0], kind.prompt(99)

    together = joint(model, canvas, *applied(hint), steps=1)
    assert difference(together, separate(model, canvas, lambda i: applied(piece(hint, canvas, i)), steps=1)) <= 1e-5
