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

import comfy.utils
from comfy.model_patcher import ModelPatcher

from .windows import Chosen, Windows

PLACES = ("patches", "patches_replace")  # in the host's transformer_options
WRAPPER = "model_function_wrapper"  # in its model_options
COLOURS = 4  # channels that an IMAGE, [b, height, width, channels], has at most
Cut = Callable[[torch.Tensor], torch.Tensor]


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

    def _copies_for(self, held: dict, window: int) -> dict:
        """What is held, by place, for one window: the same objects where they hold no picture."""
        key = (window, *map(id, held.values()))
        if key not in self._kept:
            if len(self._kept) > 4 * (len(self.windows.plan) + 1):  # a node that adds patches at every call
                self._kept.clear()
            copies = Copies(lambda tensor: self._cut(tensor, window))
            self._kept[key] = held, {place: copies.of(value) for place, value in held.items()}
        return self._kept[key][1]

    def _cut(self, tensor: torch.Tensor, window: int) -> torch.Tensor:
        """The window's piece of a mask [..., rows, columns] or an IMAGE [b, rows, columns, c]; else itself."""
        windows = self.windows
        if len(windows.dims) == 1 or tensor.ndim < 3:
            return tensor
        zoom = windows.zoom_of(tensor, least=3)
        if zoom is not None:
            return windows.cut(tensor, (window,), zoom, alone=True)
        if tensor.ndim != 4 or tensor.shape[-1] > COLOURS:
            return tensor
        rows, columns = (size * windows.pixels for size in windows.dims[-2:])
        if tensor.shape[1] * columns != tensor.shape[2] * rows:  # not a picture of the canvas
            return tensor
        picture = comfy.utils.common_upscale(tensor.movedim(-1, 1), columns, rows, "area", "disabled")
        return windows.cut(picture, (window,), windows.pixels, alone=True).movedim(1, -1)


class Copies:
    """Copies of nested values in which every tensor is replaced by `cut`; what holds none stays the same object.

    Looks into dicts, lists, tuples, functions' closures and defaults, and objects of other nodes together with what
    they hold of their own module; networks and the host's models stay.
    """

    def __init__(self, cut: Cut):
        self.cut = cut
        self._copies: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any) -> Any:
        """The copy of a value, one for each object."""
        if isinstance(value, torch.Tensor):
            return self.cut(value)
        if id(value) not in self._copies:
            self._copies[id(value)] = value, value  # what holds itself ends here
            self._copies[id(value)] = value, self._copy(value)
        return self._copies[id(value)][1]

    def _copy(self, value: Any) -> Any:
        if isinstance(value, dict):
            items = {key: self.of(item) for key, item in value.items()}
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
        if not hasattr(value, "__dict__") or isinstance(value, torch.nn.Module | ModelPatcher | type):
            return value
        return self._copy_object(value)

    def _copy_function(self, function: types.FunctionType) -> types.FunctionType:
        cells, defaults = function.__closure__ or (), (function.__defaults__, function.__kwdefaults__)
        contents = [self._of_cell(cell) for cell in cells]
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

    def _of_cell(self, cell: types.CellType) -> types.CellType:
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            return cell
        new = self.of(content)
        return cell if new is content else types.CellType(new)

    def _copy_object(self, value: Any) -> Any:
        module = type(value).__module__
        changed = {}
        for name, item in vars(value).items():
            plain = isinstance(item, torch.Tensor | dict | list | tuple)
            if plain or type(item).__module__ == module:
                new = self.of(item)
                if new is not item:
                    changed[name] = new
        if not changed:
            return value
        made = copy.copy(value)
        vars(made).update(changed)
        return made
