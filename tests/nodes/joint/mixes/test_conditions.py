"""Every kind of condition that the host's models know, against the host's own run of each view with its piece."""

import ast
import inspect
from dataclasses import dataclass

import pytest
import torch

import comfy.ldm.hidream_o1.conditioning
import comfy.model_base

import nodes as host_nodes
from safa_pack.nodes.canvas import Guide
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.safa_core import SwapJoin
from safa_pack.tests import tiny_families
from safa_pack.tests.nodes.host_calls import SEED, Forwards, canvas_of, crop, difference, joint, separate

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


# ---- What the host's models take, and what becomes of it ----

CUT = {  # of the canvas's size: every view gets its piece
    "c_concat",
    "camera_conditions",
    "condition",
    "context_latents",
    "control_video",
    "denoise_mask",
    "effnet",
    "image_cond",
    "local_add_cond",
    "lq_latent",
    "pose_latents",
    "ref_latent",
    "ref_latents",
    "ref_mask_latents",
    "reference_latent",
    "reference_motion",
    "sam_latents",
    "time_dim_concat",
    "time_dim_replace",
    "vace_context",
}
CUT_IN_TIME = {"audio_codes", "global_embed", "refer_audio"}  # of sound: test_audio_conds
OF_A_VIEW = {  # the host's encoding for one view's size
    "ar_len",
    "c_ar",
    "c_size",
    "image_meta_size",
    "input_ids",
    "position_ids",
    "token_types",
    "vinput_mask",
    "y",
}
TIME = {  # of a video's frames, not along the canvas
    "audio_embed",
    "face_pixel_values",
    "fps",
    "frame_rate",
    "guiding_frame_index",
    "num_video_frames",
    "ref_audio",
    "time_context",
}
WHOLE = {  # does not depend on the place
    "attention_mask",
    "audio_inject_scale",
    "c_crossattn",
    "clip",
    "clip_fea",
    "clip_fea_ref",
    "clip_img",
    "clip_text",
    "clip_text_pooled",
    "crossattn_controlnet",
    "crp",
    "degrade_sigma",
    "disable_time_r",
    "encoder_hidden_states_llama3",
    "encoder_hidden_states_t5",
    "guidance",
    "is_covers",
    "lyric_embed",
    "lyric_token_idx",
    "lyrics_strength",
    "num_tokens",
    "ofs",
    "ref_contexts",
    "ref_image_grid_thw",
    "ref_latents_method",
    "ref_mask_flag",
    "ref_patches",
    "ref_pixel_values",
    "replace_with_null_embeds",
    "sca",
    "siglip_feats",
    "speaker_embeds",
    "t5xxl_ids",
    "t5xxl_weights",
    "text_embedding_mask",
    "text_embedding_mask_t5",
    "txt_byt5",
    "vace_strength",
}
REFUSED = {  # guide frames of LTXV; and packs of several latents, which are no canvas
    "audio_denoise_mask",
    "guide_attention_entries",
    "keyframe_idxs",
    "latent_shapes",
    "minimax_payload",
}


def keys_set(function, name="out"):
    """The constant keys under which a function writes into its dictionary `name`; None for keys that it computes."""
    keys = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and ast.unparse(target.value) == name:
                    keys.add(target.slice.value if isinstance(target.slice, ast.Constant) else None)
    return keys


def functions_named(module, name):
    tree = ast.parse(inspect.getsource(module))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]


def test_every_condition_of_the_hosts_models_is_in_a_table():
    keys = set()
    for function in functions_named(comfy.model_base, "extra_conds"):
        keys |= keys_set(function)
    for function in functions_named(comfy.ldm.hidream_o1.conditioning, "build_extra_conds"):
        keys |= keys_set(function)  # HiDream O1, which sets them in a loop
    keys.discard(None)
    known = CUT | CUT_IN_TIME | OF_A_VIEW | TIME | WHOLE | REFUSED
    assert len(keys) > 80
    assert keys - known == set(), (
        f"comfy/model_base.py has conditions that no table of {__file__} knows: {sorted(keys - known)}. See in the "
        "host what they are, put them into CUT (and a test into CASES), OF_A_VIEW, TIME, WHOLE or REFUSED, and mend "
        "what goes wrong."
    )
    assert known - keys == set(), f"the host has no conditions {sorted(known - keys)} any more: take them out."


# ---- Conditions of the canvas's size ----


@dataclass(frozen=True)
class Drawn:
    """A tensor that is drawn on the canvas: [..., rows, columns], `zoom` times the latent's."""

    tensor: torch.Tensor
    zoom: float = 1

    def piece(self, canvas, i):
        """The tensor under view i, column by column."""
        axis = canvas.axis - len(canvas.shape) - 1
        length = self.tensor.shape[axis]
        first, size = canvas.plan.starts[i] * self.zoom, canvas.plan.view * self.zoom
        columns = [(int(first) + k) % length for k in range(int(size))]
        return self.tensor.index_select(axis, torch.tensor(columns))


def replaced(values, change):
    """Nested values in which every `Drawn` is replaced."""
    if isinstance(values, Drawn):
        return change(values)
    if isinstance(values, dict):
        return {key: replaced(value, change) for key, value in values.items()}
    return [replaced(value, change) for value in values] if isinstance(values, list) else values


@dataclass(frozen=True)
class Case:
    """A condition of the canvas's size.

    key:    the host's key of the model cond.
    model:  a function that makes the model.
    values: what the nodes put into the conditioning, given `draw(*channels, zoom=)`, which draws on the canvas.
    """

    key: str
    model: object
    values: object
    shape: tuple = (1, 16, 2, 8, 28)
    view: int = 12
    loop: bool = False
    tall: bool = False
    guide: bool = False
    limit: float = 1e-5
    width: int = tiny_families.WIDTH  # of texts
    cfg: float = 4.0

    def canvas(self):
        shape = (*self.shape[:-2], self.shape[-1], self.shape[-2]) if self.tall else self.shape
        return canvas_of(shape, self.view, loop=self.loop, axis=-2 if self.tall else -1)

    def draw(self, canvas):
        """`draw(*channels, zoom=1)` gives a random `Drawn` per picture of the batch, and `frames` in time."""
        generator = torch.Generator().manual_seed(9)

        def draw(channels, zoom=1, frames=None, binary=False):
            time, picture = canvas.shape[1:-2], canvas.shape[1:][-2:]
            time = time if frames is None else (frames,)
            size = (self.shape[0], channels, *time, *(int(d * zoom) for d in picture))
            tensor = torch.randn(size, generator=generator)
            return Drawn(tensor.gt(0).float() if binary else tensor, zoom)

        return draw


PICTURE = (1, 16, 8, 28)
SD = (1, 4, 8, 28)


def masked(draw, channels, zoom=8):
    return {"concat_latent_image": draw(channels), "concat_mask": draw(1, zoom=zoom, binary=True)}


def in_time(drawn):
    return Drawn(drawn.tensor.movedim(1, 2), drawn.zoom)


def of_half_size(draw):
    return {"pose_video_latent": draw(16, zoom=0.5), "driving_mask_28ch": in_time(draw(28, zoom=0.5))}


def of_lower_quality(draw):
    return {"lq_latent": draw(16, zoom=1 / 32), "degrade_sigma": torch.tensor([0.3])}


CASES = {
    "the masked picture of an inpainting SD 1.5": Case(
        "c_concat", tiny_families.sd15_inpaint, lambda draw: masked(draw, 4), shape=(2, 4, 8, 28), guide=True
    ),
    "the masked picture of Flux Fill": Case(
        "c_concat", tiny_families.flux_fill, lambda draw: masked(draw, 16), shape=(2, 16, 8, 28), loop=True
    ),
    "the picture that Instruct Pix2Pix edits": Case(
        "c_concat", tiny_families.pix2pix, lambda draw: {"concat_latent_image": draw(4)}, shape=SD, tall=True
    ),
    "the picture that moves in Wan": Case(
        "c_concat", tiny_families.wan_i2v, lambda draw: masked(draw, 16, 1), shape=(2, 16, 2, 8, 28), guide=True
    ),
    "the picture that moves in Stable Video Diffusion": Case(
        "c_concat", tiny_families.svd, lambda draw: {"concat_latent_image": draw(4)}, shape=(3, 4, 8, 28), limit=1e-4
    ),
    "the picture of SD X4 Upscaler": Case(
        "c_concat", lambda: tiny_families.reading("SD_X4Upscaler"), lambda draw: {"concat_image": draw(3)}, shape=SD
    ),
    "the control frames of Wan VACE": Case(
        "vace_context",
        tiny_families.wan_vace,
        lambda draw: {
            "vace_frames": [draw(32), draw(32)],
            "vace_mask": [draw(64), draw(64)],
            "vace_strength": [1, 0.5],
        },
        loop=True,
    ),
    "the control frames of Wan VACE, one per picture": Case(
        "vace_context",
        tiny_families.wan_vace,
        lambda draw: {"vace_frames": [draw(32)], "vace_mask": [draw(64)], "vace_strength": [1.0]},
        shape=(2, 16, 2, 8, 28),
        tall=True,
        guide=True,
    ),
    "the camera path of Wan": Case(
        "camera_conditions",
        tiny_families.wan_camera,
        lambda draw: {"camera_conditions": draw(24, zoom=8), **masked(draw, 16, 1)},
        tall=True,
    ),
    "the reference picture of Wan Fun": Case(
        "reference_latent", tiny_families.wan_fun, lambda draw: {"reference_latents": [draw(16, frames=1)]}, guide=True
    ),
    "the reference picture of Wan S2V": Case(
        "reference_latent", tiny_families.wan_s2v, lambda draw: {"reference_latents": [draw(16, frames=1)]}, loop=True
    ),
    "the frames before of Wan S2V": Case(
        "reference_motion",
        tiny_families.wan_s2v,
        lambda draw: {"reference_motion": draw(16, frames=19)},
        shape=(1, 16, 2, 16, 64),
        view=32,
    ),
    "the control video of Wan S2V": Case(
        "control_video", tiny_families.wan_s2v, lambda draw: {"control_video": draw(16)}, tall=True
    ),
    "the poses of Wan Animate": Case(
        "pose_latents", tiny_families.wan_animate, lambda draw: {"pose_video_latent": draw(16, frames=1)}
    ),
    "the poses and masks of SCAIL, at half the size": Case(
        "sam_latents", tiny_families.wan_scail, of_half_size, shape=(1, 16, 2, 16, 56), view=24, loop=True
    ),
    "the masks of SCAIL's reference": Case(
        "ref_mask_latents",
        tiny_families.wan_scail,
        lambda draw: {"reference_latents": [draw(16, frames=1)], "ref_mask_28ch": in_time(draw(28, frames=3))},
        tall=True,
    ),
    "the reference picture of SCAIL": Case(
        "reference_latent", tiny_families.wan_scail, lambda draw: {"reference_latents": [draw(16, frames=1)]}
    ),
    "the kept part of a video for Wan 2.2": Case(
        "denoise_mask",
        tiny_families.wan22,
        lambda draw: {"denoise_mask": draw(1, binary=True)},
        shape=(1, 48, 2, 8, 28),
    ),
    "frames beside the video of Wan": Case(
        "time_dim_concat", tiny_families.wan, lambda draw: {"time_dim_concat": draw(16)}, shape=(2, 16, 2, 8, 28)
    ),
    "the pictures in the context of Wan": Case(
        "context_latents",
        tiny_families.wan,
        lambda draw: {"context_latents": [draw(16), draw(16, frames=1)]},
        loop=True,
    ),
    "the panorama that Flux Kontext edits": Case(
        "ref_latents",
        tiny_families.flux,
        lambda draw: {"reference_latents": [draw(16)]},
        shape=(2, 16, 8, 28),
        guide=True,
    ),
    "the panorama that Qwen Edit edits": Case(
        "ref_latents",
        tiny_families.qwen_image,
        lambda draw: {"reference_latents": [draw(16)]},
        shape=(1, 16, 1, 8, 28),
        loop=True,
    ),
    "the reference picture of HunyuanVideo": Case(
        "ref_latent", tiny_families.hunyuan_video, lambda draw: {"ref_latent": draw(16, frames=1)}, tall=True, cfg=1.0
    ),
    "the first frame of Kandinsky": Case(
        "time_dim_replace", tiny_families.kandinsky, lambda draw: {"time_dim_replace": draw(16, frames=1)}, guide=True
    ),
    "the picture that HiDream edits": Case(
        "image_cond",
        lambda: tiny_families.reading("HiDream"),
        lambda draw: {"concat_latent_image": draw(16)},
        shape=(2, 16, 8, 28),
    ),
    "the picture that SeedVR2 restores": Case(
        "condition", lambda: tiny_families.reading("SeedVR2"), lambda draw: {"condition": draw(17)}, loop=True
    ),
    "the kept part of a sound for Stable Audio 3": Case(
        "local_add_cond",
        lambda: tiny_families.reading("StableAudio3"),
        lambda draw: {"concat_latent_image": draw(256)},
        shape=(1, 256, 28),
        width=768,
    ),
    "the latent of lower quality that PiD draws": Case(
        "lq_latent", tiny_families.pid, of_lower_quality, shape=(1, 3, 64, 256), view=128, loop=True
    ),
    "the prior of Stable Cascade": Case(
        "effnet",
        tiny_families.cascade_b,
        lambda draw: {"stable_cascade_prior": draw(16)},
        shape=(1, 4, 16, 56),
        view=24,
    ),
}


def test_every_condition_of_the_canvas_has_a_test():
    assert {case.key for case in CASES.values()} == CUT


@pytest.mark.parametrize("name", CASES)
def test_every_view_gets_its_own_piece_of(name):
    case = CASES[name]
    canvas, model = case.canvas(), case.model()
    values = case.values(case.draw(canvas))

    def conds(change):
        return [tiny_families.prompt(seed, width=case.width, **replaced(values, change)) for seed in (1, 2)]

    def view(i):
        return conds(lambda drawn: drawn.piece(canvas, i % len(canvas.plan)))

    guide = Guide(0.5, 1, "rows" if len(case.shape) == 4 else "frames") if case.guide else None
    options = dict(guide=guide, batch=case.shape[0], cfg=case.cfg, steps=2 if case.guide else 1)
    together = joint(model, canvas, *conds(lambda drawn: drawn.tensor), **options)
    assert difference(together, separate(model, canvas, view, **options)) <= case.limit
    turned = joint(
        model, canvas, *conds(lambda drawn: drawn.tensor.flip(canvas.axis - len(canvas.shape) - 1)), **options
    )
    assert difference(turned, together) > 100 * case.limit


# ---- What a whole run hands on ----


def test_every_view_is_told_its_own_part_of_what_is_kept():
    """Cosmos Predict2 counts how much of its picture is kept, and takes the time of each frame from that."""
    canvas = canvas_of((1, 16, 1, 8, 28), 12)
    mask = torch.ones(1, 1, 8, 28)
    mask[..., 9:] = 0
    model, told = tiny_families.cosmos(), []
    process_timestep = type(model.model).process_timestep

    def note(timestep, x, denoise_mask=None, **kwargs):
        told.append(denoise_mask.mean((1, 2, 3, 4)).tolist())
        return process_timestep(model.model, timestep, x, denoise_mask=denoise_mask, **kwargs)

    model.add_object_patch("process_timestep", note)
    patched = JointPatch(canvas, SwapJoin(), None, "SaFa Model Patch").install(model)
    pixels = torch.nn.functional.interpolate(mask, scale_factor=8)[:, 0]
    latent = {"samples": torch.zeros(1, *canvas.shape), "noise_mask": pixels}
    conds = tiny_families.prompt(1), tiny_families.prompt(2)
    host_nodes.KSampler().sample(patched, SEED, 1, 1.0, "euler", "simple", *conds, latent)
    views = [float(crop(mask, canvas, i, 3).mean()) for i in range(len(canvas.plan))]
    assert views == pytest.approx([0.75, 1 / 12, 0.0])
    assert sorted(told[0]) == pytest.approx(sorted(views))


@pytest.mark.parametrize("size", [(8, 12), (4, 14), (6, 28)])
def test_a_reference_picture_of_another_size_is_whole_for_every_view(size):
    canvas = canvas_of(PICTURE, 12)
    picture = torch.randn(1, 16, *size, generator=torch.Generator().manual_seed(9))
    conds = [tiny_families.prompt(seed, reference_latents=[picture]) for seed in (1, 2)]
    model = tiny_families.flux()
    together = joint(model, canvas, *conds, steps=1)
    assert difference(together, separate(model, canvas, lambda i: conds, steps=1)) <= 1e-5


def test_what_another_picture_looks_like_is_whole_for_every_view():
    """Style models and CLIP vision: no place on the canvas."""
    canvas = canvas_of((1, 16, 1, 8, 28), 12)
    generator = torch.Generator().manual_seed(9)

    class Vision:
        penultimate_hidden_states = torch.randn(1, 257, 1280, generator=generator)

    conds = [tiny_families.prompt(seed, clip_vision_output=Vision()) for seed in (1, 2)]
    model = tiny_families.wan_i2v()
    together = joint(model, canvas, *conds, steps=1)
    assert difference(together, separate(model, canvas, lambda i: conds, steps=1)) <= 1e-5
    plain = [tiny_families.prompt(seed) for seed in (1, 2)]
    assert difference(joint(model, canvas, *plain, steps=1), together) > 1e-3


@pytest.mark.parametrize("guide", [None, Guide(0.5, 1, "rows")])
def test_pixart_is_told_the_size_of_a_view(guide):
    canvas, model = canvas_of((1, 4, 36, 84), 36), tiny_families.pixart()
    conds = [tiny_families.prompt(seed) for seed in (1, 2)]
    together = joint(model, canvas, *conds, guide=guide)
    assert difference(together, separate(model, canvas, lambda i: conds, guide=guide)) <= 1e-5


def test_hidream_o1_counts_the_places_of_a_view():
    """Its encoding numbers the patches of a picture of 32 x 32 pixels each, behind the text."""
    canvas, model = canvas_of((1, 3, 64, 224), 96), tiny_families.reading("HiDreamO1")
    text = {"text_input_ids": torch.arange(8)[None]}
    conds = [tiny_families.prompt(seed, **text) for seed in (1, 2)]
    with Forwards(model.model.diffusion_model) as calls:
        joint(model, canvas, *conds, steps=1)
        separate(model, canvas, lambda i: conds, steps=1)
    (_, together), (_, alone), *_ = calls
    for name in ("input_ids", "position_ids", "token_types", "vinput_mask"):
        assert together[name].shape[0] == 3 * alone[name].shape[0]
        assert all(torch.equal(part, alone[name]) for part in together[name].chunk(3))
    assert together["ar_len"] == alone["ar_len"]


def test_guide_frames_of_ltxv_are_refused():
    """Their places are counted on the whole canvas."""
    canvas = canvas_of((1, 128, 2, 8, 28), 12)
    conds = [tiny_families.prompt(seed, keyframe_idxs=torch.zeros(1, 3, 8 * 28, 2)) for seed in (1, 2)]
    with pytest.raises(ValueError, match=r"SaFa Sampler: a prompt holds guide frames of LTXV.*before LTXV Add Guide"):
        joint(tiny_families.reading("LTXV"), canvas, *conds, steps=1)
