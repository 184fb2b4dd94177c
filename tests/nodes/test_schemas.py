"""What saved workflows rely on: ids, inputs and outputs in their order. Append, never rename or reorder."""

import asyncio

import pytest

from safa_pack.nodes import comfy_entrypoint

pytestmark = pytest.mark.host

# id: display name, inputs, outputs; an input's type and, after =, its default; optional ones in parentheses.
NODES = {
    "SaFaSubviewPlanner": (
        "Subview Planner",
        "model:MODEL length:FLOAT=0.0 unit:COMBO=auto view:FLOAT=0.0 overlap:FLOAT=0.2 loop:BOOLEAN=False "
        "height:INT=0 batch_size:INT=1 (latent:LATENT)",
        "plan:SAFA_PLAN latent:LATENT preview:IMAGE info:STRING view_width:INT view_height:INT",
    ),
    "SaFaSelfLoopSwap": ("Self-Loop Swap", "interval:INT=1 axis:COMBO=frames shift:INT=0", "join:SAFA_JOIN"),
    "SaFaOverlapAverage": ("Overlap Average (MultiDiffusion)", "window:COMBO=flat", "join:SAFA_JOIN"),
    "SaFaReferenceSwap": (
        "Reference Swap",
        "rate:FLOAT=0.3 interval:INT=1 axis:COMBO=auto (conditioning:CONDITIONING) (latent:LATENT)",
        "guide:SAFA_GUIDE",
    ),
    "SaFaModelPatch": (
        "SaFa Model Patch",
        "model:MODEL plan:SAFA_PLAN (join:SAFA_JOIN) (guide:SAFA_GUIDE)",
        "model:MODEL",
    ),
    "SaFaSampler": (
        "SaFa Sampler",
        "model:MODEL plan:SAFA_PLAN positive:CONDITIONING negative:CONDITIONING latent:LATENT seed:INT=0 steps:INT=20 "
        "cfg:FLOAT=7.0 sampler_name:COMBO=euler scheduler:COMBO=simple denoise:FLOAT=1.0 (join:SAFA_JOIN) "
        "(guide:SAFA_GUIDE)",
        "latent:LATENT reference:LATENT",
    ),
    "SaFaLoopDecode": ("Loop VAE Decode", "vae:VAE latent:LATENT plan:SAFA_PLAN", "image:IMAGE"),
    "SaFaAudioModelLoader": ("SaFa Audio Model Loader", "model_name:COMBO", "model:MODEL clip:CLIP vae:VAE"),
    "SaFaSaveLoop": (
        "Save Loop (WAV)",
        "audio:AUDIO filename_prefix:STRING=audio/loop loop:BOOLEAN=True format:COMBO=16-bit repeat:INT=1 "
        "(audioUI:AUDIO_UI)",
        "",
    ),
    "SaFaLiteFocus": ("LiteFocus", "model:MODEL rho:FLOAT=0.1 levels:STRING=2 seed:INT=0", "model:MODEL"),
    "SaFaMergeAttend": ("Merge-Attend-Diffuse", "model:MODEL plan:SAFA_PLAN tau:FLOAT=0.5", "model:MODEL"),
    "SaFaSyncGradient": (
        "SyncDiffusion",
        "model:MODEL plan:SAFA_PLAN vae:VAE weight:FLOAT=20.0 decay:FLOAT=0.95 steps:INT=10 "
        "backbone:COMBO=VAE features",
        "model:MODEL",
    ),
    "SaFaSpectrumReport": (
        "Spectrum Report",
        "latent:LATENT plan:SAFA_PLAN (vae:VAE) (reference:LATENT) (steps:SAFA_STEPS)",
        "plot:IMAGE figures:STRING",
    ),
    "SaFaRecordSteps": (
        "Record Steps",
        "model:MODEL plan:SAFA_PLAN every:INT=1 keep:COMBO=prediction",
        "model:MODEL steps:SAFA_STEPS",
    ),
    "SaFaPromptTimeline": (
        "Prompt Timeline",
        "clip:CLIP timeline:STRING plan:SAFA_PLAN (cross_fade:FLOAT=0.1) (blend:COMBO=columns)",
        "positive:CONDITIONING preview:IMAGE info:STRING",
    ),
    "SaFaRollHalf": (
        "Roll by Half (Seam Check)",
        "axis:COMBO=auto (audio:AUDIO) (image:IMAGE) (audioUI:AUDIO_UI)",
        "audio:AUDIO image:IMAGE score:FLOAT info:STRING",
    ),
}
OPTIONS = {
    ("SaFaSubviewPlanner", "unit"): ["seconds", "pixels", "latent", "auto"],
    ("SaFaSelfLoopSwap", "axis"): ["frames", "rows", "auto"],
    ("SaFaReferenceSwap", "axis"): ["frames", "rows", "auto"],
    ("SaFaOverlapAverage", "window"): ["flat", "triangular"],
    ("SaFaSaveLoop", "format"): ["16-bit", "24-bit", "float"],
    ("SaFaRecordSteps", "keep"): ["prediction", "latent"],
    ("SaFaPromptTimeline", "blend"): ["columns", "views"],
    ("SaFaRollHalf", "axis"): ["auto", "width", "height"],
}


def schemas():
    async def nodes():
        return await (await comfy_entrypoint()).get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(nodes())}


def written(part):
    default = getattr(part, "default", None)
    text = f"{part.id}:{part.get_io_type()}" + ("" if default is None else f"={default}")
    return f"({text})" if part.optional else text


@pytest.mark.parametrize("node_id", NODES)
def test_names_and_order(node_id):
    schema = schemas()[node_id].GET_SCHEMA()
    display_name, inputs, outputs = NODES[node_id]
    assert schema.display_name == display_name
    given = " ".join(map(written, schema.inputs))
    assert given == inputs or given.startswith(inputs + " ("), "append optional inputs, never rename or reorder"
    named = " ".join(f"{o.display_name}:{o.get_io_type()}" for o in schema.outputs)
    assert named == outputs


@pytest.mark.parametrize(("node_id", "name"), OPTIONS)
def test_choices(node_id, name):
    (combo,) = [i for i in schemas()[node_id].GET_SCHEMA().inputs if i.id == name]
    assert combo.options == OPTIONS[node_id, name]


def test_every_node_explains_itself():
    for node_id, node in schemas().items():
        schema = node.GET_SCHEMA()
        assert node_id.startswith("SaFa") and schema.display_name and schema.category == "SaFa"
        assert len(schema.description or "") > 40 and schema.description.endswith("."), node_id
        assert len(schema.search_aliases) > 2, node_id
        for part in schema.inputs:
            assert len(part.tooltip or "") > 15 and part.tooltip.endswith("."), (node_id, part.id)


def test_defaults_are_valid():
    for node_id, node in schemas().items():
        for part in node.GET_SCHEMA().inputs:
            default = getattr(part, "default", None)
            if default is None:
                continue
            if getattr(part, "options", None):
                assert default in part.options, (node_id, part.id)
            if getattr(part, "min", None) is not None:
                assert part.min <= default <= part.max, (node_id, part.id)


def test_the_host_accepts_every_schema():
    """GET_SCHEMA and the old-style dictionaries are what /object_info is made of."""
    for node_id, node in schemas().items():
        node.VALIDATE_CLASS()
        assert node.INPUT_TYPES()["required"], node_id
        assert len(node.RETURN_TYPES) == len(node.GET_SCHEMA().outputs)
