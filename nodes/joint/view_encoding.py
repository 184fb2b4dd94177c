"""The host's encoding of conds for one view's size (SDXL's width and height), keeping what lies on the canvas.

What speaks of time is cut too (seconds, reference audio, audio codes): what is no longer than one view describes a
clip, and every view gets all of it; what is longer describes the canvas.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch.nn.functional import interpolate, pad

from comfy.conds import CONDList, CONDNoiseShape, CONDRegular
from comfy.samplers import encode_model_conds

from .model_facts import follows_time
from .start import Start
from .windows import Windows

REFERENCE_AUDIO = "reference_audio_timbre_latents"  # cond key of the host's Set Reference Audio (ACE-Step 1.5)
ROUNDING = 1.0  # the host itself writes whole seconds
CODE_COLUMNS = 5  # ACE-Step 1.5: latent columns (25 Hz) that one audio code (5 Hz) covers
NO_CODE = 35847  # what the host fills up with after the last audio code
SONG = "yue2_chunks"  # cond key of YuE2: its text is a whole song's memory, with places in it
FRAME_RATE = 25  # hidden states a second of models whose text is the sound's own course (MiniMax Music 3)
KEYFRAMES = "keyframe_idxs"  # model cond: where each token of the host's LTXV guide frames lies on the canvas
BESIDE = ("concat_latent_image", "concat_mask")  # cond keys: what inpainting models read beside the latent
STRETCHED = "effnet"  # Stable Cascade's prior, which the network stretches over any picture, corner to corner

Values = dict[str, CONDRegular]


@dataclass(frozen=True)
class Encoded:
    """The model conds of one cond.

    values:   for every window; those of the canvas's size are still to be cut.
    of_views: what else differs, view by view; empty where nothing does.
    """

    values: Values
    of_views: list[Values]

    def of(self, i: int) -> Values:
        """What window `i` gets; the reference, after the last view, has the first one's."""
        return {**self.values, **self.of_views[i % len(self.of_views)]} if self.of_views else self.values


class ViewEncoding:
    """Encodes conds that the host has encoded for the canvas again, for views.

    windows: where the views lie. start: what the host hands to this sampling. scale: seconds or pixels per column.
    """

    def __init__(self, windows: Windows, start: Start, scale: float):
        self.windows, self.start, self.scale = windows, start, scale

    def encode(self, model: torch.nn.Module, conds: list[dict], of_canvas: list[bool]) -> list[Encoded]:
        """Conds of one list, processed for the canvas. of_canvas: whether each belongs to places on the canvas."""
        plan = self.windows.plan
        if any(SONG in c for c in conds) and len(plan) > 1:
            raise ValueError(
                "a prompt holds the memory of a whole YuE2 song, and views cannot have a part of it; set `view` of the "
                "Subview Planner to the canvas's length."
            )
        if any(KEYFRAMES in c["model_conds"] for c in conds):
            raise ValueError(
                "a prompt holds guide frames of LTXV, whose places are counted on the whole canvas, and views cannot "
                "have a part of them; connect the prompts from before LTXV Add Guide."
            )
        if plan.view == plan.length:
            return [Encoded(c["model_conds"], []) for c in conds]
        name = self._name_of(conds)
        originals: dict[tuple, Encoded] = {}
        out = []
        for whole, on_canvas, view in zip(conds, of_canvas, self._for_one_view(model, conds, name), strict=True):
            # to a positive with an area the host adds a negative that is a copy of it, but for what was encoded
            key = tuple(map(id, whole["model_conds"].values()))
            if key not in originals:
                values = {**view["model_conds"], **(self._on_canvas(whole["model_conds"]) if on_canvas else {})}
                originals[key] = Encoded(values, self._of_views(model, whole, name) if on_canvas else [])
            out.append(originals[key])
        return out

    def _name_of(self, conds: list[dict]) -> str:
        """The guider's name for a list of conds ("positive"); a guider with two models keeps one elsewhere."""
        for name, known in self.start.guider.conds.items():
            if any(cond is conds[0] for cond in known):
                return name
        return "negative"

    def _on_canvas(self, whole: Values) -> Values:
        """The model conds that have the canvas's size."""
        if STRETCHED in whole:
            prior = interpolate(whole[STRETCHED].cond.float(), self.windows.dims, mode="bilinear", align_corners=True)
            whole = {**whole, STRETCHED: CONDRegular(prior)}
        return {name: value for name, value in whole.items() if self.zoom_of(value) is not None}

    def _for_one_view(self, model: torch.nn.Module, conds: list[dict], name: str) -> list[dict]:
        first = self.windows.plan.columns[0].to(self.start.noise.device)
        noise, latent, mask = self.start.window(first, self.windows.axis)
        return encode_model_conds(
            model.extra_conds,
            [self._fitting(cond, first) for cond in conds],
            noise,
            noise.device,
            name,
            latent_image=latent,
            denoise_mask=mask,
            seed=self.start.seed,
            latent_shapes=[noise.shape],
        )

    def _fitting(self, cond: dict, columns: torch.Tensor) -> dict:
        """A cond whose sound beside the latent is as long as a view: the host stretches pictures, but no sound."""
        if len(self.windows.dims) > 1:
            return cond
        beside = {name: cond[name] for name in BESIDE if name in cond}
        long = {name: t for name, t in beside.items() if t.shape[-1] == self.windows.plan.length}
        return {**cond, **{name: t.index_select(-1, columns.to(t.device)) for name, t in long.items()}}

    def zoom_of(self, value: CONDRegular) -> Fraction | int | None:
        """`Windows.zoom_of` for a model cond, a fraction where it is smaller; of a list, its first part's."""
        if isinstance(value, CONDList):
            zooms = (self.windows.zoom_of(part) for part in value.cond)
            return next((zoom for zoom in zooms if zoom is not None), None)
        if not isinstance(value.cond, torch.Tensor):
            return None
        if isinstance(value, CONDNoiseShape):  # the host itself cuts it like the latent
            long = value.cond.shape[self.windows.from_end]
            return 1 if long == self.windows.plan.length else None
        return self.windows.zoom_of(value.cond) or self.windows.fraction_of(value.cond)

    # ---- What differs from view to view ----

    def _of_views(self, model: torch.nn.Module, cond: dict, name: str) -> list[Values]:
        plan, whole = self.windows.plan, cond["model_conds"]
        columns = [plan.indices(i) for i in range(len(plan))]
        if cond.get("seconds_total", 0) > plan.view * self.scale + ROUNDING:
            parts = self._timed(model, cond)
            texts = ("c_crossattn", "global_embed")
            return [
                {k: v for k, v in c["model_conds"].items() if k in texts}
                for c in self._for_one_view(model, parts, name)
            ]
        if self._is_course(whole.get("c_crossattn")):
            course = whole["c_crossattn"]
            return [{"c_crossattn": CONDRegular(self._course_at(course.cond, start))} for start in plan.starts]
        if _longer(cond.get(REFERENCE_AUDIO), plan.view) and "refer_audio" in whole:
            audio = whole["refer_audio"].cond
            return [{"refer_audio": CONDRegular(audio.index_select(2, c.to(audio.device)))} for c in columns]
        if "audio_codes" in whole and whole["audio_codes"].cond.shape[1] * CODE_COLUMNS > plan.view:
            codes = whole["audio_codes"].cond
            return [{"audio_codes": CONDRegular(codes_in(codes, c.to(codes.device)))} for c in columns]
        return []

    def _timed(self, model: torch.nn.Module, cond: dict) -> list[dict]:
        """A cond of Stable Audio whose seconds are the canvas's, for every view; one where views do not differ.

        Version 1 has seen crops of longer files in training: a view begins later in the same piece. Version 3 knows the
        length of a clip alone: it is a view's.
        """
        plan = self.windows.plan
        if not hasattr(model, "seconds_start_embedder"):
            return [{**cond, "seconds_total": plan.view * self.scale}]
        first = cond.get("seconds_start", 0)
        return [{**cond, "seconds_start": first + start * self.scale} for start in plan.starts]

    def _is_course(self, text: CONDRegular | None) -> bool:
        """Whether a text [B, frames, C] is the course of the whole sound."""
        if text is None or not follows_time(self.start.guider.inner_model.latent_format):
            return False
        return abs(text.cond.shape[1] - self.windows.plan.length * self.scale * FRAME_RATE) <= 1

    def _course_at(self, course: torch.Tensor, start: int) -> torch.Tensor:
        """The frames of one view that begins at a column."""
        frames = self.scale * FRAME_RATE
        places = round(start * frames) + torch.arange(round(self.windows.plan.view * frames), device=course.device)
        return course.index_select(1, places % course.shape[1])


def _longer(latents: list[torch.Tensor] | None, columns: int) -> bool:
    return latents is not None and len(latents) > 0 and latents[-1].shape[2] > columns


def codes_in(codes: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Audio codes [B, N] of the canvas for a window of these columns: the code under the middle of each five.

    Where a window does not begin at a multiple of five columns its codes lie up to two columns (0.08 s) off.
    """
    middles = torch.arange(0, len(columns), CODE_COLUMNS, device=codes.device) + CODE_COLUMNS // 2
    places = columns[middles.clamp(max=len(columns) - 1)] // CODE_COLUMNS
    filled = pad(codes, (0, max(0, int(places.max()) + 1 - codes.shape[1])), value=NO_CODE)
    return filled[:, places]
