"""What a user reads in ComfyUI's help panel and in a Chinese page: it must say what the nodes' schemas say.

The panel asks for docs/<node id>/<language>.md below the pack's web folder, then for docs/<node id>.md, which is the
English page; pictures are looked for in docs/. It renders GitHub's Markdown, without formulas.
"""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from comfy_api.latest import io

from safa_pack.nodes import NODES

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "web" / "docs"
SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in NODES}
LANGUAGES = ("en", "zh")
TERMS = ("inputs", "outputs", "wired", "free", "on", "off")
WORDS = {
    "en": dict(zip(TERMS, ("Inputs", "Outputs", "required", "not connected", "on", "off"), strict=True)),
    "zh": dict(zip(TERMS, ("输入", "输出", "必须连接", "不连接", "开", "关"), strict=True)),
}
RANGE = re.compile(r"([\d.]+) (?:to|到) ([\d.]+)")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)]*)\)")
CHINESE = re.compile("[\u4e00-\u9fff]")
pages = pytest.mark.parametrize(("node_id", "language"), [(n, lang) for n in SCHEMAS for lang in LANGUAGES])


def page_file(node_id, language):
    return DOCS / f"{node_id}.md" if language == "en" else DOCS / node_id / f"{language}.md"


def page(node_id, language):
    return page_file(node_id, language).read_text(encoding="utf-8")


def table(node_id, language, kind):
    """Rows under a heading by the name in back quotes in their first cell: {name: cells}."""
    section = re.search(rf"^## {WORDS[language][kind]}\n(.*?)(?=^## |\Z)", page(node_id, language), re.S | re.M)
    rows = [line.strip("| \n").split(" | ") for line in section[1].splitlines() if "`" in line] if section else []
    return {re.search("`(.+?)`", row[0])[1]: row for row in rows}


def locale(language):
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def outputs(schema):
    return [out.display_name or out.id for out in schema.outputs]


def default(part, words):
    if not isinstance(part, io.WidgetInput):
        return words["free"] if part.optional else words["wired"]
    value = getattr(part, "default", None)
    if value is None:
        return "—"
    if isinstance(value, bool):
        return words["on" if value else "off"]
    return f"`{value}`" if isinstance(value, str) else f"{value:g}"


def test_every_node_has_a_page_in_both_languages_and_no_page_is_about_a_missing_node():
    wanted = {page_file(node_id, language) for node_id in SCHEMAS for language in LANGUAGES}
    assert {file for file in DOCS.rglob("*") if file.suffix == ".md"} == wanted


@pages
def test_the_page_has_the_node_s_name_and_says_how_it_works(node_id, language):
    text = page(node_id, language)
    assert text.startswith(f"# {locale(language)[node_id]['display_name']}\n\n")
    assert text.count("```") == 4, "equation and example"
    assert "](https://arxiv.org/abs/" in text


@pages
def test_the_page_tells_every_input_with_its_unit_and_default(node_id, language):
    rows, names = table(node_id, language, "inputs"), locale(language)[node_id]["inputs"]
    inputs = SCHEMAS[node_id].inputs
    assert list(rows) == [part.id for part in inputs]
    for part in inputs:
        name, unit, without, text = rows[part.id]
        told = names[part.id]["name"]
        assert name == (f"`{part.id}`" if language == "en" else f"{told} `{part.id}`")
        assert unit and len(text) > 4
        assert without == default(part, WORDS[language]), part.id
        if not isinstance(part, io.WidgetInput):
            assert unit.startswith(part.get_io_type())


@pages
def test_the_page_tells_ranges_and_choices_as_the_node_has_them(node_id, language):
    rows = table(node_id, language, "inputs")
    for part in SCHEMAS[node_id].inputs:
        unit, text = rows[part.id][1], rows[part.id][3]
        told = RANGE.search(unit)
        if told:
            assert (float(told[1]), float(told[2])) == (part.min, part.max), part.id
        options = getattr(part, "options", None) or ()
        if len(options) <= 4 and part.id not in ("backbone", "model_name"):  # theirs are files
            assert all(option in unit + text for option in options), part.id


@pages
def test_the_page_tells_every_output_with_its_unit(node_id, language):
    rows, names = table(node_id, language, "outputs"), locale(language)[node_id].get("outputs", {})
    assert list(rows) == outputs(SCHEMAS[node_id])
    for place, (out, row) in enumerate(rows.items()):
        name, unit, text = row
        assert unit and text
        told = names[str(place)]["name"]
        assert name == (f"`{out}`" if language == "en" else f"{told} `{out}`")


@pages
def test_the_page_shows_what_the_node_makes_or_does_in_a_picture(node_id, language):
    assert any(picture for picture, _, _ in LINK.findall(page(node_id, language)))


@pages
def test_links_and_pictures_exist(node_id, language):
    for picture, words, address in LINK.findall(page(node_id, language)):
        assert words
        if picture:  # the panel looks for all pages' pictures in docs/
            with Image.open(DOCS / address) as opened:
                assert opened.width >= 400
        else:
            assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", address), address
            assert words == f"arXiv:{address.rsplit('/', 1)[1]}"


def test_no_picture_is_left_over():
    shown = {address for n in SCHEMAS for lang in LANGUAGES for _, _, address in LINK.findall(page(n, lang))}
    assert {file.name for file in DOCS.glob("*.png")} <= shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_locale_names_every_node_input_and_output_and_no_other(language):
    told = locale(language)
    assert told.keys() == SCHEMAS.keys()
    for node_id, schema in SCHEMAS.items():
        assert list(told[node_id]["inputs"]) == [part.id for part in schema.inputs], node_id
        assert list(told[node_id].get("outputs", {})) == [str(n) for n in range(len(schema.outputs))], node_id


def test_the_english_locale_says_what_the_nodes_say():
    for node_id, schema in SCHEMAS.items():
        told = locale("en")[node_id]
        assert told["display_name"] == schema.display_name
        assert [part["name"] for part in told["inputs"].values()] == [part.id for part in schema.inputs]
        assert [out["name"] for out in told.get("outputs", {}).values()] == outputs(schema)


def test_a_chinese_page_has_chinese_descriptions_and_tooltips():
    for node_id, node in locale("zh").items():
        parts = [*node["inputs"].values(), *node.get("outputs", {}).values()]
        for text in (node["description"], *(part["tooltip"] for part in parts)):
            assert CHINESE.search(text), (node_id, text)
            assert not re.search("[\u4e00-\u9fff][,;:?!]", text), f"ASCII punctuation behind Chinese: {text}"
        assert all(part["name"] for part in parts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_s_translator_reads_no_syntax_of_its_own_in_a_text(language):
    """vue-i18n takes @, braces and bars for links, placeholders and plurals."""
    assert not re.search("[@{}|]", "".join(_texts(locale(language))))


def _texts(node):
    return [node] if isinstance(node, str) else [text for value in node.values() for text in _texts(value)]
