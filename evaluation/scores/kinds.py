"""Kinds of sounds, the words that name them in a prompt, and the AudioSet classes that a listener may call them."""

from __future__ import annotations

import re

KINDS = {  # kind -> AudioSet's names; several kinds may share a class
    "rain": ("Rain", "Raindrop", "Rain on surface"),
    "wind": ("Wind", "Wind noise (microphone)", "Rustling leaves"),
    "waves": ("Ocean", "Waves, surf"),
    "stream": ("Stream", "Waterfall", "Trickle, dribble", "Gurgling"),
    "fire": ("Fire", "Crackle"),
    "crowd": ("Crowd", "Chatter", "Hubbub, speech noise, speech babble", "Speech", "Conversation", "Cheering"),
    "crickets": ("Cricket", "Insect"),
    "birds": ("Bird", "Bird vocalization, bird call, bird song", "Chirp, tweet"),
    "bells": ("Bell", "Church bell", "Chime", "Tubular bells", "Bicycle bell", "Jingle bell", "Wind chime"),
    "footsteps": ("Walk, footsteps", "Run"),
    "thunder": ("Thunderstorm", "Thunder"),
    "drum": (
        "Percussion", "Drum", "Drum kit", "Snare drum", "Bass drum", "Drum machine", "Drum roll", "Tabla", "Timpani",
        "Cymbal",
    ),
    "pad": (
        "Ambient music", "New-age music", "Synthesizer", "Electronic music", "Organ", "Electronic organ",
        "Keyboard (musical)", "String section", "Singing bowl",
    ),
    "harbour": (
        "Boat, Water vehicle", "Ship", "Foghorn", "Sailboat, sailing ship", "Rowboat, canoe, kayak",
        "Motorboat, speedboat",
    ),
    "engine": (
        "Engine", "Idling", "Light engine (high frequency)", "Medium engine (mid frequency)",
        "Heavy engine (low frequency)", "Motor vehicle (road)", "Truck",
    ),
    "clock": ("Clock", "Tick", "Tick-tock"),
}  # fmt: skip
WORDS = {  # kind -> the words that name it
    "rain": "rain raining rainy raindrops drizzle downpour shower",
    "wind": "wind winds windy breeze gust gusts",
    "waves": "wave waves surf ocean sea shore beach",
    "stream": "stream streams river brook creek waterfall",
    "fire": "fire fireplace campfire crackling",
    "crowd": "crowd crowds crowded chatter voices market people",
    "crickets": "cricket crickets",
    "birds": "bird birds birdsong",
    "bells": "bell bells chime chimes",
    "footsteps": "footstep footsteps steps walking",
    "thunder": "thunder thunderstorm",
    "drum": "drum drums drumming percussion",
    "pad": "pad pads synth synthesizer drone",
    "harbour": "harbour harbor",
    "engine": "engine engines motor",
    "clock": "clock clocks ticking",
}


def kinds_of(prompt: str) -> tuple[str, ...]:
    """The kinds that a prompt names, in the table's order; () where it names none."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    return tuple(kind for kind, names in WORDS.items() if words & set(names.split()))
