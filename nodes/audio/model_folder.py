"""An audio model's folder as one object: its components, loaded whole and from local files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import comfy.model_management

from ...safa_core.errors import shorten
from ...safa_core.loading import LOCAL
from ..errors import LIBRARY_ERRORS
from .fields import Kind, checked
from .fits import check_counts, check_parameters, tensor_sizes, without_memory
from .folder import INDEX, class_of, read_json
from .weights import check_weights

MAY_MISS = ("position_ids", "token_type_ids", "embed_tokens.weight")  # counted from 0, or tied


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder with a subfolder for each component.

    index: its model_index.json, {component: [library, class], ...}; empty for a layout without one.
    Every method refuses what is missing, broken or of an unknown class (ValueError).
    """

    path: Path
    index: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    def has(self, file: str) -> bool:
        """Whether there is a file of this path, which is relative to the folder."""
        return (self.path / file).is_file()

    def json(self, file: str) -> dict[str, Any]:
        """The JSON object in a file, whose path is relative to the folder."""
        return read_json(self.path / file)

    def fields(self, kind: type[Kind], file: str) -> Kind:
        """What the pack reads of such a file, each field of its type and in its range."""
        return checked(kind, self.json(file), f"{self.name}/{file}")

    def described(self, kind: type[Kind], component: str) -> Kind:
        """What the pack reads of a component's config.json."""
        self.component(component)
        return self.fields(kind, f"{component}/config.json")

    def class_of(self, component: str) -> str | None:
        """The class that the index names for a component, None where it names none."""
        return class_of(self.index, component)

    def expect(self, component: str, *classes: str) -> str:
        """The class that the index names for a component, which must be one of `classes`."""
        found = self.class_of(component)
        if found not in classes:
            raise ValueError(
                f"{self.name}/{INDEX} names {found} as {component!r}, but only {' or '.join(classes)} is known there."
            )
        return found

    def component(self, name: str) -> Path:
        """The subfolder of a component, its download finished, of plain files alone."""
        part = self.path / name
        if not part.is_dir():
            raise ValueError(f"{self.name} has no folder {name!r}; download the whole model.")
        unfinished = [*part.glob("*.incomplete"), *self.path.glob(f".cache/**/{name}/*.incomplete")]
        if unfinished:
            raise ValueError(f"the download of {self.name}/{name} is not finished ({unfinished[0].name}).")
        for file in sorted(part.iterdir()):
            if not (file.is_file() or file.is_dir()):  # a library would wait for a pipe or device for ever
                raise ValueError(f"{self.name}/{name}/{file.name} is no file that can be read; download it again.")
        return part

    def weight_files(self, component: str) -> list[Path]:
        """The files with a component's weights, safetensors rather than .bin, all present and readable.

        Shards are those that an index file names.
        """
        part = self.component(component)
        for ending in (".safetensors", ".bin"):
            files = sorted(part.glob(f"*{ending}"))
            for index in sorted(part.glob(f"*{ending}.index.json"))[:1]:
                files = [part / name for name in self._shards(index)]
            for file in files:
                check_weights(file)
            if files:
                return files
        raise ValueError(f"{self.name}/{component} has no .safetensors or .bin file with weights.")

    def _shards(self, index: Path) -> list[str]:
        """The files that an index of shards lists, of those that lie beside it: no other path is looked at."""
        place = f"{self.name}/{index.parent.name}"
        listed = read_json(index).get("weight_map")
        names = list(listed.values()) if isinstance(listed, dict) else []
        present = [file.name for file in index.parent.iterdir()]
        missing = [str(name) for name in names if name not in present]
        if missing:
            raise ValueError(f"{place}/{missing[0][:100]} is missing; download the whole model.")
        if not names:
            raise ValueError(f"{place}/{index.name} lists no files with weights; download it again.")
        return sorted(set(names))

    def load(self, kind: type[Any], component: str) -> Any:
        """A component as an object of a library's class `kind`, with all its weights, in float32 on the CPU."""
        comfy.model_management.throw_exception_if_processing_interrupted()  # a large one takes a while
        part = self.component(component)
        config = self.json(f"{component}/config.json")
        files = self.weight_files(component)
        self._check_fit(kind, component, config, tensor_sizes(files))
        # diffusers' other way needs accelerate
        options = {"low_cpu_mem_usage": False} if issubclass(kind, ModelMixin) else {}
        try:
            model, report = kind.from_pretrained(
                part,
                use_safetensors=files[0].suffix == ".safetensors",
                variant="fp16" if all(".fp16." in file.name for file in files) else None,
                output_loading_info=True,
                torch_dtype=torch.float32,
                **LOCAL,
                **options,
            )
        except LIBRARY_ERRORS as error:
            raise ValueError(f"{self.name}/{component} does not load ({shorten(error)}).") from error
        missing = sorted(key for key in report["missing_keys"] if not key.endswith(MAY_MISS))
        if missing or report["mismatched_keys"]:
            example = f", such as {missing[0]}" if missing else ""
            raise ValueError(
                f"{self.name}/{component} lacks {len(missing)} weights that a {kind.__name__} needs{example}; download "
                "the model again."
            )
        return model.eval().requires_grad_(False)

    def _check_fit(self, kind: type[Any], component: str, config: dict[str, Any], sizes: list[int]) -> None:
        """Refuse a configuration that is not of these weights; sizes: how many numbers each of their tensors has."""
        place = f"{self.name}/{component}"
        check_counts(config, len(sizes), place)
        try:
            described = without_memory(kind, self.path / component, config)
        except LIBRARY_ERRORS as error:
            raise ValueError(f"{place} does not load ({shorten(error)}).") from error
        check_parameters(described, sum(sizes), place)

    def tokenizer(self, component: str) -> PreTrainedTokenizerBase:
        """A component that makes token ids of text."""
        part = self.component(component)
        try:
            return AutoTokenizer.from_pretrained(part, **LOCAL)
        except LIBRARY_ERRORS as error:
            raise ValueError(f"the tokenizer {self.name}/{component} does not load ({shorten(error)}).") from error
