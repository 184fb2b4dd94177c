"""The host's own templates with SaFa in them, and a newcomer's first run, in a real server with tiny files."""

import pytest
import safetensors.torch
from comfyui_workflow_templates import iter_templates

from safa_pack.tests.host_templates.first_run import FILES, prompt_of
from safa_pack.tests.host_templates.graphs import is_link, template
from safa_pack.tests.host_templates.listed import TEMPLATES
from safa_pack.tests.host_templates.runs import TemplateServer, outcome

pytestmark = pytest.mark.server
NO_WORKFLOWS = ("index", "fuse_options")  # lists for the page, in the same folder
QUICK = [template for template in TEMPLATES if not template.slow]


@pytest.fixture(scope="module")
def server(comfyui, tmp_path_factory):
    """One server with the tiny files of all templates."""
    with TemplateServer(comfyui, tmp_path_factory.mktemp("templates"), QUICK, FILES) as running:
        yield running


@pytest.mark.parametrize("listed", QUICK, ids=lambda listed: listed.name)
def test_a_template_of_the_host_gives_the_planned_size_and_the_hosts_own_views(server, listed):
    made = outcome(server, listed)
    assert made.size == made.expected
    assert made.one_view == 0
    assert made.separate is None or made.separate < 1e-4


# 6 views of pictures, 3 of sound, at overlap 0.2 of the model's own view in latent columns
@pytest.mark.parametrize(
    "family, told, shape",
    [
        ("SD1.5", "6 views of 512 px", (4, 64, 6 * 64 - 5 * 13)),
        ("Qwen-Image", "6 views of 1328 px", (16, 1, 166, 6 * 166 - 5 * 34)),
        ("Stable Audio 3 small", "3 views of 120 s", (256, 3 * 1292 - 2 * 259)),
        ("ACE-Step 1.5", "3 views of 120 s", (64, 3 * 3000 - 2 * 600)),
    ],
)
def test_a_first_run_with_nothing_typed_is_right(server, family, told, shape):
    result = server.run(prompt_of(family, server.object_info()))
    assert result.error is None
    (file,) = [path for path in server.files(result) if path.suffix == ".latent"]
    latent = safetensors.torch.load_file(file)["latent_tensor"]
    assert latent.shape == (1, *shape)
    assert latent.isfinite().all() and latent.std() > 0.01
    assert any(told in text for _, text in result.texts)


def test_every_template_that_needs_no_service_becomes_a_prompt_without_loose_ends(server):
    known, prompts = server.object_info(), 0
    for name in (entry.template_id for entry in iter_templates()):
        if name.startswith(NO_WORKFLOWS):
            continue
        try:
            prompt = template(name, known)
        except ValueError:  # a node of a paid service, or of another pack
            continue
        prompts += 1
        linked = {value[0] for node in prompt.values() for value in node["inputs"].values() if is_link(value)}
        assert linked <= set(prompt), name
    assert prompts > 200
