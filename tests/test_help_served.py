"""The addresses that ComfyUI's page asks for help pages, pictures and translations."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from safa_pack import run

pytestmark = pytest.mark.server

WEB = Path(__file__).resolve().parent.parent / "web"


def test_the_server_serves_help_pages_pictures_and_names(server):
    def get(path):
        with urllib.request.urlopen(server.url + path) as answer:
            assert not answer.headers["Content-Type"].startswith("text/html"), "the panel takes HTML for a missing page"
            return answer.read()

    nodes = [node for node in json.loads(get("/object_info")) if node.startswith("SaFa")]
    translated = [f"docs/{node}/zh.md" for node in nodes]
    files = [f"docs/{node}.md" for node in nodes] + [file for file in translated if (WEB / file).is_file()]
    assert nodes
    for file in [*files, *(f"docs/{picture.name}" for picture in (WEB / "docs").glob("*.png"))]:
        assert get(f"/extensions/{run.PACK}/{file}") == (WEB / file).read_bytes()
    names = json.loads(get("/i18n"))
    assert names["en"]["nodeDefs"].keys() == set(nodes)
    assert names["zh"]["nodeDefs"].keys() <= set(nodes)


def test_a_page_that_is_not_translated_is_refused_so_that_the_panel_takes_the_english_one(server):
    assert not (WEB / "docs" / "SaFaSampler" / "xx.md").exists()
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{server.url}/extensions/{run.PACK}/docs/SaFaSampler/xx.md")
    assert refusal.value.code == 404
