"""What a newcomer gets who connects the nodes and types nothing."""

from safa_pack.tests import tiny_checkpoints, tiny_files
from safa_pack.tests.host_templates.graphs import add


def qwen_image(path):
    """Qwen-Image without a layer: one has 340 M weights."""
    return tiny_files.qwen_image(path, layers=0)


def checkpoint(prompt, name):
    return add(prompt, "CheckpointLoaderSimple", ckpt_name=name)


def network(prompt, name):
    return add(prompt, "UNETLoader", unet_name=name, weight_dtype="default")


def stand_in(prompt, name):
    return add(prompt, "StandInModel", family=name)


# By family: how it is loaded and its name there, the width of its texts, what else they bring.
FAMILIES = {
    "SD1.5": (checkpoint, "v1-5-pruned-emaonly-fp16.safetensors", 768, ""),
    "Qwen-Image": (network, "qwen_image_fp8_e4m3fn.safetensors", 3584, ""),
    "Stable Audio 3 small": (checkpoint, "stable_audio_3_medium.safetensors", 768, ""),
    "ACE-Step 1.5": (stand_in, "ACE-Step 1.5", 32, "ACE-Step 1.5"),
}
FILES = {
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors": tiny_checkpoints.sd15_checkpoint,
    "diffusion_models/qwen_image_fp8_e4m3fn.safetensors": qwen_image,
    "checkpoints/stable_audio_3_medium.safetensors": tiny_files.stable_audio3,
}


def defaults(info):
    """The values that a node's widgets have when it is put on the canvas."""
    values = {}
    for name, (kind, *options) in {**info["input"].get("required", {}), **info["input"].get("optional", {})}.items():
        options = options[0] if options else {}
        choices = kind if isinstance(kind, list) else options.get("options")
        if "default" in options:
            values[name] = options["default"]
        elif choices:
            values[name] = choices[0]
    return values


def prompt_of(family, object_info):
    """Loader, Subview Planner and SaFa Sampler as they are, but for one step; the latent is saved."""
    load, name, width, kind = FAMILIES[family]
    prompt = {}
    model = load(prompt, name)
    text = add(prompt, "StandInTexts", width=width, pooled=768, kind=kind)
    positive = add(prompt, "CLIPTextEncode", clip=text, text="rain")
    planner = add(prompt, "SaFaSubviewPlanner", **defaults(object_info["SaFaSubviewPlanner"]), model=model)
    sampler = defaults(object_info["SaFaSampler"]) | {"steps": 1, "cfg": 1.0}
    made = add(
        prompt,
        "SaFaSampler",
        **sampler | {"model": model, "plan": planner, "latent": [planner[0], 1]},
        positive=positive,
        negative=positive,
    )
    add(prompt, "SaveLatent", samples=made, filename_prefix="latent")
    return prompt
