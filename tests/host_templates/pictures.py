"""Templates of the host that make pictures, each with the tiny files that its loaders open."""

from safa_pack.tests import tiny_checkpoints, tiny_files
from safa_pack.tests.host_templates.template import Template, texts

TINY = texts("", width=64, pooled=32)[""]  # as `tiny_families` has them

OMNIGEN2 = texts("", width=64, pooled=0, kind="OmniGen2")[""]

SD15 = {"checkpoints/v1-5-pruned-emaonly-fp16.safetensors": tiny_checkpoints.sd15_checkpoint}
SDXL = {"checkpoints/sd_xl_base_1.0.safetensors": tiny_files.sdxl}
SDXL_REFINER = {"checkpoints/sd_xl_refiner_1.0.safetensors": tiny_files.sdxl_refiner}
SDXL_TURBO = {"checkpoints/sd_xl_turbo_1.0_fp16.safetensors": tiny_files.sdxl}
SDXL_TEXTS = {"CheckpointLoaderSimple": {1: texts("", width=2048, pooled=1280)[""]}}
TWO_STAGES = {"10": {"end_at_step": 1}, "11": {"start_at_step": 1}}
SD35 = {"checkpoints/sd3.5_large_fp8_scaled.safetensors": tiny_checkpoints.sd35_checkpoint}
AE = {"vae/ae.safetensors": tiny_files.small_vae}
FLUX = {"diffusion_models/flux1-dev.safetensors": tiny_files.flux} | AE
FLUX_FILL = {"diffusion_models/flux1-fill-dev.safetensors": tiny_files.flux_fill} | AE
FLUX2_VAE = {f"vae/{name}.safetensors": tiny_files.flux2_vae for name in ("flux2-vae", "full_encoder_small_decoder")}
LORA_ON = {"PrimitiveBoolean": {"value": True}}  # the templates' own switch
FLUX2_LORA = tiny_files.lora(("double_blocks.0.img_attn.proj", 128, 128))
QWEN_VAE = {"vae/qwen_image_vae.safetensors": tiny_files.wan_vae}
QWEN_LORA = tiny_files.lora(("transformer_blocks.0.attn.to_q", 32, 32))
QWEN = {"UNETLoader": ("StandInModel", {"family": "Qwen-Image"}), "CLIPLoader": TINY}

HUNYUAN_IMAGE = {
    "model": {"class_type": "UNETLoader", "inputs": {"unet_name": "hunyuan.safetensors", "weight_dtype": "default"}},
    "texts": {"class_type": "CLIPLoader", "inputs": {}},
    "vae": {"class_type": "VAELoader", "inputs": {}},
    "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["texts", 0], "text": "a lake"}},
    "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["texts", 0], "text": ""}},
    "latent": {"class_type": "EmptyHunyuanImageLatent", "inputs": {"width": 2048, "height": 2048, "batch_size": 1}},
    "sampler": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["model", 0],
            "positive": ["positive", 0],
            "negative": ["negative", 0],
            "latent_image": ["latent", 0],
            "seed": 0,
            "steps": 20,
            "cfg": 3.5,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
        },
    },
    "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]}},
    "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "picture"}},
}

PICTURES = [
    Template("default", "SD1.5", SD15, sizes=("EmptyLatentImage",)),
    Template(
        "sdxl_simple_example", "SDXL", SDXL | SDXL_REFINER, SDXL_TEXTS, TWO_STAGES, "two stages", ("EmptyLatentImage",)
    ),
    Template("sdxlturbo_example", "SDXL", SDXL_TURBO, SDXL_TEXTS, sizes=("EmptyLatentImage",)),
    Template("sd3.5_simple_example", "SD3.5", SD35, sizes=("EmptySD3LatentImage",)),
    Template(
        "sd3.5_large_canny_controlnet_example",
        "SD3.5",
        SD35 | {"controlnet/sd3.5_large_controlnet_canny.safetensors": tiny_files.sd35_control},
        mix="ControlNet",
        sizes=("EmptySD3LatentImage", "ImageScale"),
    ),
    Template("flux_dev_checkpoint_example", "Flux", FLUX, texts("DualCLIPLoader"), sizes=("EmptySD3LatentImage",)),
    Template(
        "flux_schnell",
        "Flux",
        {"checkpoints/flux1-schnell-fp8.safetensors": tiny_files.flux_checkpoint},
        {"CheckpointLoaderSimple": {1: texts("")[""]}},
        sizes=("EmptySD3LatentImage",),
    ),
    Template(
        "flux1_krea_dev",
        "Flux",
        {"diffusion_models/flux1-krea-dev_fp8_scaled.safetensors": tiny_files.flux} | AE,
        texts("DualCLIPLoader"),
        sizes=("EmptySD3LatentImage",),
    ),
    Template("flux_fill_inpaint_example", "Flux", FLUX_FILL, texts("DualCLIPLoader"), mix="inpaint", picture=True),
    Template(
        "flux_fill_outpaint_example",
        "Flux",
        FLUX_FILL,
        texts("DualCLIPLoader"),
        {"ImagePadForOutpaint": {"left": 0, "right": 0, "bottom": 0}},
        mix="outpaint",
        picture=True,
    ),
    Template(
        "flux_canny_model_example",
        "Flux",
        {"diffusion_models/flux1-canny-dev.safetensors": tiny_files.flux_concat} | AE,
        texts("DualCLIPLoader"),
        mix="edges beside the latent",
        picture=True,
    ),
    Template(
        "flux_kontext_dev_basic",
        "Flux",
        {"diffusion_models/flux1-dev-kontext_fp8_scaled.safetensors": tiny_files.flux} | AE,
        texts("DualCLIPLoader"),
        mix="edit",
        picture=True,
    ),
    Template(
        "image_flux2_text_to_image",
        "Flux 2",
        {
            "diffusion_models/flux2_dev_fp8mixed.safetensors": tiny_files.flux2,
            "loras/Flux_2-Turbo-LoRA_comfyui.safetensors": FLUX2_LORA,
        }
        | FLUX2_VAE,
        texts("CLIPLoader"),
        LORA_ON,
        mix="LoRA",
        sizes=("EmptyFlux2LatentImage", "Flux2Scheduler"),
        scale=16,
        view=128,
        across=128,
    ),
    Template(
        "image_flux2_klein_text_to_image",
        "Flux 2",
        {f"diffusion_models/flux-2-klein{name}-4b.safetensors": tiny_files.flux2_klein for name in ("", "-base")}
        | FLUX2_VAE,
        texts("CLIPLoader"),
        sizes=("EmptyFlux2LatentImage", "Flux2Scheduler"),
        scale=16,
        view=128,
        across=128,
    ),
    Template(
        "image_flux2_klein_image_edit_4b_distilled",
        "Flux 2",
        {"diffusion_models/flux-2-klein-4b-fp8.safetensors": tiny_files.flux2_klein} | FLUX2_VAE,
        texts("CLIPLoader"),
        mix="edit",
        scale=16,
        view=128,
        across=128,
        picture=True,
    ),
    Template(
        "image_lens_t2i",
        "Lens",
        {"diffusion_models/lens_bf16.safetensors": tiny_files.lens} | FLUX2_VAE,
        texts("CLIPLoader"),
        sizes=("EmptyLatentImage", "ModelSamplingFlux"),
        scale=16,
        view=128,
        across=128,
    ),
    Template(
        "image_krea2_turbo_t2i",
        "Krea 2",
        {
            "diffusion_models/krea2_turbo_fp8_scaled.safetensors": tiny_files.krea2,
            "loras/krea2_darkbrush.safetensors": tiny_files.lora(("blocks.0.attn.wo", 128, 128)),
        }
        | QWEN_VAE,
        texts("CLIPLoader", width=320),
        LORA_ON | {"30:24": {"value": False}},  # no prompt written by a language model
        mix="LoRA",
        sizes=("EmptyLatentImage",),
    ),
    Template(
        "image_anima_base_v1",
        "Anima",
        {
            "diffusion_models/anima-base-v1.0.safetensors": tiny_files.anima,
            "loras/anima-turbo-lora-v0.2.safetensors": tiny_files.lora(("blocks.0.self_attn.q_proj", 256, 256)),
        }
        | QWEN_VAE,
        texts("CLIPLoader", width=1024, pooled=0),
        LORA_ON,
        mix="LoRA",
        sizes=("EmptyLatentImage",),
    ),
    Template(
        "image_qwen_image",
        "Qwen-Image",
        QWEN_VAE | {"loras/Qwen-Image-Lightning-8steps-V1.0.safetensors": QWEN_LORA},
        QWEN,
        LORA_ON,
        mix="LoRA",
        sizes=("EmptySD3LatentImage",),
    ),
    Template(
        "template_qwen_Image_2512_360_lora",
        "Qwen-Image",
        QWEN_VAE
        | {
            f"loras/{name}.safetensors": QWEN_LORA
            for name in ("Qwen-Image-2512-Lightning-4steps-V1.0-fp32", "qwen-360-diffusion-2512-int8-bf16-v2")
        },
        QWEN,
        LORA_ON,
        mix="two LoRAs",
        sizes=("EmptySD3LatentImage",),
    ),
    Template(
        "image_qwen_image_edit_2509",
        "Qwen-Image",
        QWEN_VAE | {"loras/Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors": QWEN_LORA},
        QWEN,
        mix="edit",
        picture=True,
        slow=True,
    ),
    Template(
        "image_qwen_image_instantx_inpainting_controlnet",
        "Qwen-Image",
        QWEN_VAE,
        QWEN | {"ControlNetLoader": ("StandInControl", {"kind": "InstantX inpainting"})},
        mix="ControlNet, inpaint",
        picture=True,
    ),
    Template(
        "image_z_image_turbo",
        "Z-Image",
        AE,
        {"UNETLoader": ("StandInModel", {"family": "Z-Image"}), "CLIPLoader": TINY},
        sizes=("EmptySD3LatentImage",),
    ),
    Template(
        "image_chroma_text_to_image",
        "Chroma",
        AE,
        {"UNETLoader": ("StandInModel", {"family": "Chroma"}), "CLIPLoader": TINY},
        sizes=("EmptySD3LatentImage",),
    ),
    Template(
        "hidream_i1_full",
        "HiDream",
        AE,
        {
            "UNETLoader": ("StandInModel", {"family": "HiDream"}),
            "QuadrupleCLIPLoader": texts("", width=64, pooled=32, kind="HiDream")[""],
        },
        sizes=("EmptySD3LatentImage",),
    ),
    Template(
        "hidream_e1_1",
        "HiDream",
        AE,
        {
            "UNETLoader": ("StandInModel", {"family": "HiDream"}),
            "QuadrupleCLIPLoader": texts("", width=64, pooled=32, kind="HiDream")[""],
        },
        mix="edit",
        picture=True,
    ),
    Template(
        "image_hidream_o1",
        "HiDream-O1",
        {},
        {
            "CheckpointLoaderSimple": {
                0: ("StandInModel", {"family": "HiDream-O1"}),
                1: texts("", width=64, pooled=0, kind="HiDream-O1")[""],
                2: ("VAELoader", {"vae_name": "pixel_space"}),
            }
        },
        {"176": {"on_true": ["171", 0]}},  # no prompt written by a language model
        mix="smoothed patches",
        sizes=("EmptyHiDreamO1LatentImage",),
        scale=1,
    ),
    Template(
        "(HunyuanImage 2.1: no template, the host's nodes)",
        "HunyuanImage",
        {"diffusion_models/hunyuan.safetensors": tiny_files.hunyuan_image},
        texts("CLIPLoader") | {"VAELoader": ("StandInVAE", {"pixels": 32})},
        sizes=("EmptyHunyuanImageLatent",),
        scale=32,
        view=256,
        across=256,
        graph=HUNYUAN_IMAGE,
    ),
    Template(
        "Image_capybara_v0_1_text_to_image",
        "HunyuanVideo 1.5",
        {"diffusion_models/capybara_v0.1.safetensors": tiny_files.hunyuan_video15},
        texts("DualCLIPLoader") | {"VAELoader": ("StandInVAE", {"pixels": 16})},
        sizes=("EmptyHunyuanVideo15Latent",),
        scale=16,
        view=128,
        across=128,
    ),
    Template(
        "image_omnigen2_t2i",
        "OmniGen2",
        AE,
        {"UNETLoader": ("StandInModel", {"family": "OmniGen2"}), "CLIPLoader": OMNIGEN2},
        sizes=("EmptySD3LatentImage",),
    ),
]
