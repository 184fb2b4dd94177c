"""Templates of the host, each with the tiny files that its loaders open."""

from safa_pack.tests import tiny_checkpoints, tiny_files
from safa_pack.tests.host_templates.pictures import PICTURES
from safa_pack.tests.host_templates.template import Template, seconds, texts

SOUND = [
    Template(
        "audio_stable_audio_3_medium",
        "Stable Audio 3",
        {"checkpoints/stable_audio_3_medium.safetensors": tiny_files.stable_audio3},
        texts("CLIPLoader", pooled=0),
        {"PrimitiveBoolean": {"value": False}},
        sizes=("EmptyLatentAudio",),
        unit="seconds",
        view=seconds(16, 4096 / 44100),
        scale=4096 / 44100,
    ),
    Template(
        "audio_stable_audio_example",
        "Stable Audio Open",
        {
            "checkpoints/stable-audio-open-1.0.safetensors": tiny_checkpoints.stable_audio_checkpoint,
            "text_encoders/t5-base.safetensors": tiny_checkpoints.t5_base,
        },
        sizes=("EmptyLatentAudio",),
        unit="seconds",
        view=seconds(24, 2048 / 44100),
        scale=2048 / 44100,
    ),
    Template(
        "audio_ace_step_1_t2a_song",
        "ACE-Step 1.0",
        {},
        {
            "CheckpointLoaderSimple": {
                0: ("StandInModel", {"family": "ACE-Step 1.0"}),
                1: texts("", pooled=0, kind="ACE-Step 1.0")[""],
                2: ("StandInVAE", {"pixels": 0}),
            }
        },
        sizes=("EmptyAceStepLatentAudio",),
        unit="seconds",
        view=seconds(16, 4096 / 44100),
        scale=4096 / 44100,
    ),
    Template(
        "audio_ace_step_1_5_split",
        "ACE-Step 1.5",
        {"vae/ace_1.5_vae.safetensors": tiny_files.ace_step15_vae},
        {
            "UNETLoader": ("StandInModel", {"family": "ACE-Step 1.5"}),
            **texts("DualCLIPLoader", width=32, pooled=0, kind="ACE-Step 1.5"),
        },
        sizes=("EmptyAceStep1.5LatentAudio",),
        unit="seconds",
        view=seconds(26, 1 / 25),
        scale=1 / 25,
    ),
]

TEMPLATES = [*PICTURES, *SOUND]
