"""Pictures and masks of the canvas that other nodes' patches on the network hold: each window gets its piece.

The host knows nothing of what a patch holds, and few of them know batches of pictures, so the windows of such a model
run one by one, each with copies of the patches that hold its piece.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import interpolate

import comfy.utils
from comfy.model_patcher import ModelPatcher

from .windows import Chosen, Windows

PLACES = ("patches", "patches_replace")  # in the host's transformer_options
WRAPPER = "model_function_wrapper"  # in its model_options
FOLLOWED = torch.Tensor | dict | list | tuple | types.FunctionType | functools.partial
NOT_COPIED = torch.nn.Module | ModelPatcher | type | types.ModuleType
COLOURS = 4  # channels that an IMAGE, [b, height, width, channels], has at most
MASK = "mask"  # what a MASK [b, rows, columns] is called where a patch holds it: it may have any size
IMAGE = "image"  # how the names of IMAGEs that lie on the canvas end ("inpaint_image")
Cut = Callable[[torch.Tensor, str], torch.Tensor]  # of a tensor, and what it is called


class HeldPictures:
    """Replaces the patches and wrapper of a network by copies for one window; kept, as they keep what they encoded."""

    def __init__(self, windows: Windows):
        self.windows = windows
        self._kept: dict[tuple, tuple[dict, dict]] = {}

    def any_in(self, model_options: dict) -> bool:
        """Whether the host's model_options have patches that hold a picture of the canvas."""
        return self.options_for(model_options, (0,)) is not model_options

    def options_for(self, model_options: dict, windows: Chosen) -> dict:
        """The host's model_options for one window; unchanged where nothing is held."""
        if len(windows) > 1:
            return model_options
        options = model_options.get("transformer_options", {})
        held = {place: options.get(place) for place in PLACES}
        held[WRAPPER] = model_options.get(WRAPPER)
        copies = self._copies_for(held, windows[0])
        changed = {place: copies[place] for place in held if copies[place] is not held[place]}
        if not changed:
            return model_options
        wrapper = {WRAPPER: changed.pop(WRAPPER)} if WRAPPER in changed else {}
        return {**model_options, **wrapper, "transformer_options": {**options, **changed}}

    def move(self, target: torch.device | torch.dtype) -> None:
        """Move the copies, as the host does with the patches that it knows."""
        for held, copies in self._kept.values():
            for place in PLACES:
                for name, patches in (copies[place] or {}).items():
                    if patches is not held[place][name]:
                        _move_each(patches, target)

    def _copies_for(self, held: dict, window: int) -> dict:
        """What is held, by place, for one window: the same objects where they hold no picture."""
        key = (window, *map(id, held.values()))
        if key not in self._kept:
            if len(self._kept) > 4 * (len(self.windows.plan) + 1):  # a node that adds patches at every call
                self._kept.clear()
            copies = Copies(lambda tensor, name: self._cut(tensor, name, window))
            self._kept[key] = held, {place: copies.of(value) for place, value in held.items()}
        return self._kept[key][1]

    def _cut(self, tensor: torch.Tensor, name: str, window: int) -> torch.Tensor:
        """The window's piece of a mask [..., rows, columns] or an IMAGE [b, rows, columns, c]; else itself.

        A mask of another size is stretched over the canvas, as image adapters stretch it over their picture; an image
        is scaled and centre-cropped to it, as the host's patches fit it to theirs.
        """
        windows = self.windows
        if len(windows.dims) == 1 or tensor.ndim < 3:
            return tensor
        zoom = windows.zoom_of(tensor, least=3)
        if zoom is not None:
            return windows.cut(tensor, (window,), zoom, alone=True)
        rows, columns = (size * windows.pixels for size in windows.dims[-2:])
        if tensor.ndim == 3 and name == MASK and tensor.is_floating_point():
            mask = interpolate(tensor.unsqueeze(1), (rows, columns), mode="bilinear").squeeze(1)
            return windows.cut(mask, (window,), windows.pixels, alone=True)
        if tensor.ndim != 4 or tensor.shape[-1] > COLOURS:
            return tensor
        same_aspect = tensor.shape[1] * columns == tensor.shape[2] * rows
        if not (same_aspect or str(name).endswith(IMAGE)):  # not a picture of the canvas
            return tensor
        picture = comfy.utils.common_upscale(tensor.movedim(-1, 1), columns, rows, "area", "center")
        return windows.cut(picture, (window,), windows.pixels, alone=True).movedim(1, -1)


def _move_each(patches: list | dict, target: torch.device | torch.dtype) -> None:
    for key, patch in list(patches.items() if isinstance(patches, dict) else enumerate(patches)):
        if hasattr(patch, "to"):
            patches[key] = patch.to(target)


class Mover:
    """A patch that does nothing but hand the host's moves between devices on to the copies of the patches beside it.

    The host moves a MODEL's patches whenever it loads one, also where a patch has just encoded its picture and asks
    for that.
    """

    NAME = "safa_mover"  # among the patches

    def __init__(self) -> None:
        self.pictures: HeldPictures | None = None  # of the sampling that runs

    def to(self, target: torch.device | torch.dtype) -> Mover:
        """Called by the host."""
        if self.pictures is not None:
            self.pictures.move(target)
        return self


class Copies:
    """Copies of nested values in which every tensor is replaced by `cut`; what holds none stays the same object.

    Looks into dicts, lists, tuples, functions' closures and defaults, and objects of other nodes together with what
    they hold of their own module; networks and the host's models stay.
    """

    def __init__(self, cut: Cut):
        self.cut = cut
        self._copies: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any, name: Any = "") -> Any:
        """The copy of a value, one for each object. name: the key, attribute or variable that it was found under."""
        if isinstance(value, torch.Tensor):
            return self.cut(value, name)
        if id(value) not in self._copies:
            self._copies[id(value)] = value, value  # what holds itself ends here
            self._copies[id(value)] = value, self._copy(value)
        return self._copies[id(value)][1]

    def _copy(self, value: Any) -> Any:
        if isinstance(value, dict):
            items = {key: self.of(item, key) for key, item in value.items()}
            return items if any(items[key] is not item for key, item in value.items()) else value
        if isinstance(value, list | tuple):
            parts = [self.of(part) for part in value]
            changed = any(new is not old for new, old in zip(parts, value, strict=True))
            return type(value)(parts) if changed and type(value) in (list, tuple) else value
        if isinstance(value, types.FunctionType):
            return self._copy_function(value)
        if isinstance(value, functools.partial):
            return self._copy_partial(value)
        if isinstance(value, types.MethodType):
            holder = self.of(value.__self__)
            return value if holder is value.__self__ else types.MethodType(value.__func__, holder)
        if not hasattr(value, "__dict__") or isinstance(value, NOT_COPIED | Mover):
            return value
        return self._copy_object(value)

    def _copy_function(self, function: types.FunctionType) -> types.FunctionType:
        cells, defaults = function.__closure__ or (), (function.__defaults__, function.__kwdefaults__)
        contents = [self._of_cell(*variable) for variable in zip(cells, function.__code__.co_freevars, strict=True)]
        of_window = self.of(defaults[0]), self.of(defaults[1])
        if all(new is old for new, old in zip((*contents, *of_window), (*cells, *defaults), strict=True)):
            return function
        made = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, of_window[0], tuple(contents)
        )
        made.__kwdefaults__ = of_window[1]
        functools.update_wrapper(made, function, updated=())
        return made

    def _copy_partial(self, value: functools.partial) -> functools.partial:
        parts = value.func, value.args, value.keywords
        function, args, keywords = (self.of(part) for part in parts)
        if function is value.func and args is value.args and keywords is value.keywords:
            return value
        return functools.partial(function, *args, **keywords)

    def _of_cell(self, cell: types.CellType, name: str) -> types.CellType:
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            return cell
        new = self.of(content, name)
        return cell if new is content else types.CellType(new)

    def _copy_object(self, value: Any) -> Any:
        module = type(value).__module__
        changed = {}
        for name, item in vars(value).items():
            if isinstance(item, FOLLOWED) or type(item).__module__ == module:
                new = self.of(item, name)
                if new is not item:
                    changed[name] = new
        if not changed:
            return value
        made = copy.copy(value)
        vars(made).update(changed)
        return made
