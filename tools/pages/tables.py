"""Generated lists and tables, from a node's schema and, for another language, its locale.

Inputs and outputs are lists: ComfyUI's help panel is 272 pixels wide, too narrow for a table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from comfy_api.latest import io

FILES = ("model_name", "backbone")  # inputs whose options are files of the machine that asks


@dataclass(frozen=True)
class Words:
    """The words of a generated list in one language."""

    item: str  # of an input or output: name, what it is, text
    default: str
    required: str
    free: str
    switch: tuple[str, str]  # on, off
    either: str
    choice: str
    choices: str
    whole: str
    number: str
    range: str
    text: str


ENGLISH = Words(
    item="- {} ({}): {}",
    default="{}; default {}",
    required="{}; required",
    free="{}; optional",
    switch=("on", "off"),
    either="on or off",
    choice="choice",
    choices="choice: {}",
    whole="whole number",
    number="number",
    range=", {} to {}",
    text="text",
)
CHINESE = Words(
    item="- {}（{}）：{}",
    default="{}；默认 {}",
    required="{}；必须连接",
    free="{}；可不连接",
    switch=("开", "关"),
    either="开或关",
    choice="选项",
    choices="选项：{}",
    whole="整数",
    number="数值",
    range="，{} 到 {}",
    text="文本",
)


def output_name(out: io.Output) -> str:
    """What the page writes beside an output's socket."""
    return out.display_name or out.id


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[.]) (?=[A-Z])", text)[0]


def kind(part: io.Input, words: Words) -> str:
    """An input's type with its range or choices, as `whole number, 1 to 1000`."""
    if isinstance(part, io.Boolean.Input):
        return words.either
    if isinstance(part, io.Combo.Input):
        listed = len(part.options) <= 4 and part.id not in FILES
        return words.choices.format(", ".join(part.options)) if listed else words.choice
    if isinstance(part, (io.Int.Input, io.Float.Input)):
        if isinstance(part, io.Int.Input):
            return words.whole + words.range.format(part.min, part.max)
        return words.number + words.range.format(f"{part.min:.10g}", f"{part.max:.10g}")
    return words.text if isinstance(part, io.String.Input) else part.get_io_type()


def default(part: io.WidgetInput, words: Words) -> str | None:
    """What an input is when nobody sets it."""
    if part.default is None:
        return None
    if isinstance(part.default, bool):
        on, off = words.switch
        return on if part.default else off
    return f"`{part.default}`" if isinstance(part.default, str) else f"{part.default:g}"


def describe(part: io.Input, words: Words) -> str:
    """An input's type and default, as `whole number, 1 to 1000; default 1`."""
    if not isinstance(part, io.WidgetInput):
        return (words.free if part.optional else words.required).format(kind(part, words))
    without = default(part, words)
    return kind(part, words) if without is None else words.default.format(kind(part, words), without)


def inputs_list(schema: io.Schema, words: Words, locale: dict | None = None) -> str:
    """A node's inputs as a list in Markdown; what `locale` lacks is English."""
    names = (locale or {}).get("inputs", {})
    lines = []
    for part in schema.inputs:
        translated = names.get(part.id, {})
        text = translated.get("tooltip", part.tooltip)
        lines.append(_item(words, _name(part.id, translated), describe(part, words), text))
    return "\n".join(lines)


def outputs_list(schema: io.Schema, words: Words, locale: dict | None = None) -> str:
    """A node's outputs as a list in Markdown; what `locale` lacks is English."""
    names = (locale or {}).get("outputs", {})
    lines = []
    for place, out in enumerate(schema.outputs):
        translated = names.get(str(place), {})
        text = translated.get("tooltip", out.tooltip)
        lines.append(_item(words, _name(output_name(out), translated), out.get_io_type(), text))
    return "\n".join(lines)


def nodes_table(schemas: dict[str, io.Schema]) -> str:
    """The README's table: every node, linked to its page, and the first sentence of its description."""
    lines = ["| node | what it does |\n|---|---|"]
    for node_id, schema in schemas.items():
        name = f"[{schema.display_name}](web/docs/{node_id}.md)"
        lines.append(_row(name, first_sentence(schema.description)))
    return "\n".join(lines)


def english_names(schemas: dict[str, io.Schema]) -> dict:
    """What locales/en/nodeDefs.json holds: names as the schemas have them."""
    names = {}
    for node_id, schema in schemas.items():
        names[node_id] = {
            "display_name": schema.display_name,
            "inputs": {part.id: {"name": part.id} for part in schema.inputs},
        }
        if schema.outputs:
            names[node_id]["outputs"] = {
                str(place): {"name": output_name(out)} for place, out in enumerate(schema.outputs)
            }
    return names


def _name(name: str, translated: dict) -> str:
    return f"**{translated['name']}** `{name}`" if "name" in translated else f"**`{name}`**"


def _item(words: Words, name: str, what: str, text: str) -> str:
    return words.item.format(name, what, text.replace("*", r"\*"))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("*", r"\*") for cell in cells) + " |"
