"""What people call the sounds that the pocket model learns: names, adjectives and places of every kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Kind:
    """nouns: its names, the usual ones first; doing: what it does; looks: adjectives; places: where it is heard.

    nouns are phrases; every word of `means` alone also means this kind, and is learnt as another of its names.
    """

    nouns: tuple[str, ...]
    doing: tuple[str, ...]
    looks: tuple[str, ...]
    places: tuple[str, ...]
    means: tuple[str, ...]


def _kind(nouns: str, doing: str, looks: str, places: str, means: str) -> Kind:
    parts = [tuple(part.strip() for part in text.split(",")) for text in (nouns, doing, looks, places)]
    return Kind(*parts, tuple(means.split()))


KINDS = {
    "rain": _kind(
        "rain, rain, rain, rainfall, raindrops, a rain shower, a downpour, drizzle",
        "falling, pouring, pattering, dripping, coming down",
        "gentle, heavy, steady, light, soft, pouring, cold, warm, summer, spring, autumn, tropical, relaxing",
        "on leaves, on a roof, on a tin roof, on the ground, on a window, in the forest, in the street, in the "
        "city, in the garden, on a tent, on the pavement, at night, in the evening",
        "rains raining rainy rainfall rainstorm raindrop raindrops downpour drizzle drizzling shower showers "
        "cloudburst monsoon sprinkle wet weather drops drop droplets patter umbrella puddle puddles gutter hail "
        "sleet dripping",
    ),
    "wind": _kind(
        "wind, wind, the wind, a breeze, a gale, gusts of wind, a snowstorm, a windstorm",
        "blowing, howling, whistling, gusting, rustling",
        "gentle, strong, gusty, howling, cold, icy, steady, whistling, winter, arctic, desert, eerie, light",
        "in the trees, in the mountains, across the desert, through the leaves, in the grass, in winter, at night, "
        "on a hill, over the plain, through a cave, around the house",
        "winds windy breeze breezy gale gales gust gusts gusting storm stormy snowstorm blizzard windstorm "
        "hurricane tornado typhoon draught draft air whoosh snow snowy winter frost desert mountain mountains "
        "tundra polar sand",
    ),
    "waves": _kind(
        "waves, waves, ocean waves, sea waves, the sea, the ocean, surf",
        "breaking, crashing, rolling, lapping, washing, coming in",
        "gentle, large, slow, calm, rough, big, small, crashing, endless, relaxing",
        "on a beach, on the shore, on rocks, against the rocks, on the coast, on the sand, at sunset, by the sea",
        "wave sea seas seaside ocean oceans surf surfing beach beaches shore shores coast coastal tide tides tidal "
        "swell breakers shoreline seashore bay cliff cliffs island atlantic pacific foam",
    ),
    "stream": _kind(
        "a stream, a stream, a river, a brook, running water, a creek, flowing water, a waterfall",
        "flowing, babbling, running, bubbling, rushing, gurgling",
        "small, babbling, fast, slow, rushing, clear, quick, mountain, shallow, gentle, raging",
        "in the forest, over rocks, over stones, in the mountains, through the valley, in the woods, in spring",
        "streams river rivers brook brooks creek water waters waterfall waterfalls rapids babbling bubbling "
        "gurgling flowing fountain trickle trickling rill torrent cascade spring bath tap pond lake weir splash "
        "splashing",
    ),
    "fire": _kind(
        "fire, a fire, a campfire, a crackling fire, a fireplace, burning wood, flames",
        "crackling, burning, popping, roaring, blazing",
        "small, warm, crackling, large, cosy, roaring, hot, open, wood",
        "in a fireplace, in the camp, in the hearth, at night, in the stove, in the forest, in a cabin",
        "fires campfire bonfire fireplace flame flames burning burn burns blaze blazing crackle crackling crackles "
        "hearth stove furnace embers ember inferno torch logs wildfire candle cooking frying sizzling sizzle "
        "barbecue",
    ),
    "crowd": _kind(
        "a crowd, a crowd, people, people talking, a market, voices, a busy market, a crowd of people",
        "talking, chatting, murmuring, babbling, shouting",
        "busy, large, small, noisy, lively, excited, crowded, medieval, bustling",
        "in a market, in a square, in the street, in a tavern, in a cafe, in a hall, in a restaurant, at a party, "
        "in town",
        "crowds people persons person man men woman women child children kids human humans talk talking talks "
        "speech speaking chatter chatting murmur voice voices market marketplace bazaar cafe bar pub tavern "
        "restaurant party audience cheering applause conversation conversations babble hubbub street town city "
        "village square stadium office school shouting laughter laughing singer singing choir language radio tv",
    ),
    "crickets": _kind(
        "crickets, crickets, cicadas, insects, night insects, grasshoppers",
        "chirping, singing, buzzing, trilling",
        "many, summer, night, loud, slow, high, tropical, warm",
        "at night, in the night, in the grass, on a summer night, in the jungle, in a meadow, in the dark, in the "
        "field",
        "cricket cicada cicadas insect insects grasshopper grasshoppers katydid night nights nocturnal bug bugs "
        "bee bees buzz buzzing fly mosquito mosquitoes midnight meadow dusk summer frogs frog swamp evening",
    ),
    "birds": _kind(
        "birds, birds, songbirds, birdsong, bird calls, singing birds, a bird",
        "singing, chirping, whistling, calling, tweeting, twittering",
        "many, high, small, tropical, spring, happy, morning, wild, distant, cheerful",
        "in the morning, in the forest, in the jungle, in spring, at dawn, in the trees, in the woods, in a "
        "garden, in the countryside, in the park",
        "bird birdsong songbird songbirds sparrow sparrows robin nightingale blackbird finch thrush warbler lark "
        "cuckoo chirp chirping tweet tweeting twitter twittering tit dawn morning jungle forest woods woodland "
        "park garden nature countryside owl crow crows seagull seagulls gulls gull parrot pigeon duck ducks "
        "rooster chicken animals animal wildlife",
    ),
    "bells": _kind(
        "bells, bells, a bell, church bells, chimes, temple bells",
        "ringing, chiming, tolling, striking",
        "high, deep, slow, bright, warm, large, old, small, silver",
        "in a tower, in the village, from a church, from a chapel, in a temple, across the valley, in the morning",
        "bell chime chimes chiming church churches chapel cathedral temple monastery gong ring rings ringing "
        "tolling toll carillon glockenspiel xylophone vibraphone metallic christmas tower jingle triangle bowl "
        "bowls tinkling",
    ),
    "footsteps": _kind(
        "footsteps, footsteps, steps, someone walking, a person walking, someone running",
        "walking, running, passing, approaching",
        "slow, fast, heavy, soft, quick, steady, crunching, muffled",
        "on gravel, on grass, on sand, on wood, on a wooden floor, on stone, on rock, on snow, on dirt, on a path, "
        "on stairs",
        "footstep steps step walk walks walking walker run runs running runner jogging marching march boots boot "
        "shoes shoe feet foot gravel stairs stairway floor hallway corridor stroll strolling hiking path trail "
        "pacing crunch crunching",
    ),
    "thunder": _kind(
        "thunder, thunder, a thunderstorm, a clap of thunder, rolling thunder, rumbling thunder",
        "rumbling, rolling, cracking, roaring, striking",
        "loud, distant, heavy, deep, low, rolling, sudden, violent",
        "in the distance, in the sky, far away, over the hills, at night, in summer",
        "thunders thunderstorm thunderstorms thunderclap lightning rumble rumbling rumbles thundering storm storms "
        "tempest explosion explosions boom booming earthquake cannon cannons fireworks bomb sky avalanche volcano",
    ),
    "drum": _kind(
        "drums, drums, a drum beat, a drum loop, percussion, a hand drum, a drum kit, tabla",
        "beating, playing, pounding, rolling",
        "slow, fast, steady, deep, high, loud, funky, tribal, electronic, old",
        "in a studio, in a club, in a hall, around the fire",
        "drums drummer drummers drumming percussion beat beats rhythm rhythms rhythmic groove tabla bongo bongos "
        "conga congas djembe snare cymbal cymbals kick tom toms loop breakbeat techno house rock metal jazz band "
        "hiphop rap disco funk dance electronic dj club music song samba tribal hammer hammering knocking",
    ),
    "pad": _kind(
        "a pad, a drone, an ambient pad, soft chords, a synthesizer, ambient music, a hum",
        "humming, droning, playing, swelling",
        "warm, slow, soft, low, high, bright, dark, haunting, dreamy, peaceful, deep",
        "in space, in a dream, in the dark, in a large hall",
        "pads drone drones hum humming synthesizer synthesizers synth synths ambient chord chords organ strings "
        "string violin cello orchestra piano guitar flute melody harmony keyboard meditation meditative drift "
        "space spaceship cosmic alien dream dreamy ethereal atmosphere atmospheric sleep sleepy calm peaceful "
        "horror cinematic soundtrack symphony classical lullaby yoga zen glass spooky ghost haunted",
    ),
    "harbour": _kind(
        "a harbour, a harbour, a port, boats in a harbour, a dock, ships",
        "creaking, rocking, lapping, floating",
        "busy, old, quiet, wooden, small, large, calm",
        "at the pier, by the water, at the docks, in the bay, by the sea, in the morning",
        "harbor harbours harbors port ports dock docks boat boats ship ships sailing sail sailboat pier marina "
        "quay wharf jetty ferry creak creaking rope ropes wood wooden hull anchor yacht vessel canoe rowing "
        "fishing",
    ),
    "engine": _kind(
        "an engine, an engine, a motor, a running engine, a machine, a steam engine, a car engine",
        "running, idling, humming, working, rumbling",
        "slow, fast, steady, rough, old, loud, large, small, diesel, idling",
        "in a factory, on a road, in a workshop, on a ship, in a tunnel",
        "engines motor motors machine machines machinery motorcycle motorbike car cars truck trucks lorry bus "
        "train trains locomotive tractor traffic vehicle vehicles aircraft airplane plane helicopter jet drill "
        "generator pump diesel steam factory workshop industrial road highway street washing vacuum fan turbine "
        "idling robot lawnmower chainsaw saw",
    ),
    "clock": _kind(
        "a clock, a clock, a ticking clock, a wall clock, a pocket watch, a metronome",
        "ticking, ticking, tocking, going",
        "slow, fast, old, quiet, loud, bright, low, wooden, small",
        "in the room, on the wall, in a quiet room, in the hall, on the shelf, at night",
        "clocks tick ticks ticking tock watch watches metronome timer clockwork pendulum grandfather time seconds "
        "minute minutes hour hours second alarm clicking click clicks typing keyboard typewriter",
    ),
}  # fmt: skip
NAMES = tuple(KINDS)
# A mixture is a steady bed with something that stands out of it
BEDS = ("rain", "wind", "waves", "stream", "fire", "crowd", "harbour", "engine")
GUESTS = ("crickets", "birds", "bells", "footsteps", "thunder", "drum", "pad", "clock")

# Levels and distances have words of their own, said only where they are heard
QUIET = ("quiet", "soft", "faint", "low volume", "subtle", "silent")
LOUD = ("loud", "intense", "powerful", "very loud", "noisy")
DISTANT = ("distant", "far away", "far", "muffled", "background")
CLOSE = ("close", "nearby", "near")
OPENINGS = (
    "the sound of", "sounds of", "a recording of", "field recording of", "background sound of", "relaxing", "nice",
    "beautiful", "realistic", "high quality", "i hear", "you can hear", "there is", "loop of", "ambience of", "some",
)  # fmt: skip
JOINTS = ("with", "and", "over", "while there is", "together with", "in front of", "plus")
ENDINGS = (
    "outside", "in stereo", "for sleeping", "for a film", "today", "all day", "slowly", "again and again", "please",
)  # fmt: skip


def recorded_caption(rng: np.random.Generator, kind: str, said: tuple[str, ...] = (), place: str = "") -> str:
    """A caption of a recording. said: adjectives that are true of it; place: one that is true ("" where unknown)."""
    names = KINDS[kind]
    noun = str(rng.choice(names.means)) if rng.random() < 0.25 else str(rng.choice(names.nouns))
    article = next((a for a in ("a ", "an ", "the ") if noun.startswith(a)), "")
    looks = [*said]
    if not looks and rng.random() < 0.25:
        looks = [str(rng.choice(names.looks))]
    words = [*looks, noun.removeprefix(article) if looks else noun]
    if rng.random() < 0.4:
        words.append(str(rng.choice(names.doing)))
    if place and rng.random() < 0.8:
        words.append(place)
    elif rng.random() < 0.3:
        words.append(str(rng.choice(names.places)))
    return " ".join(words)


def renamed(rng: np.random.Generator, kind: str, caption: str) -> str:
    """A caption with another of its kind's names in the place of the usual one, now and then."""
    if rng.random() < 0.6 or kind not in caption.split():
        return caption
    return " ".join(str(rng.choice(KINDS[kind].means)) if word == kind else word for word in caption.split())


def dressed(rng: np.random.Generator, caption: str) -> str:
    """A caption with words around it that say nothing of the sound, now and then."""
    if rng.random() < 0.25:
        caption = f"{rng.choice(OPENINGS)} {caption}"
    if rng.random() < 0.1:
        caption = f"{caption} {rng.choice(ENDINGS)}"
    return caption


def joined(rng: np.random.Generator, bed: str, guest: str) -> str:
    """One caption of two."""
    if rng.random() < 0.15:
        return f"{bed}, {guest}"
    return f"{bed} {rng.choice(JOINTS)} {guest}"


def every_word() -> dict[str, str]:
    """Every word that a caption may hold, with the kind whose name it is ("" for the others)."""
    words: dict[str, str] = {}
    for text in (*QUIET, *LOUD, *DISTANT, *CLOSE, *OPENINGS, *JOINTS, *ENDINGS):
        words.update(dict.fromkeys(text.split(), ""))
    for kind in KINDS.values():
        for text in (*kind.nouns, *kind.doing, *kind.looks, *kind.places):
            words.update(dict.fromkeys(text.split(), ""))
    for name, kind in KINDS.items():
        words.update(dict.fromkeys((*kind.means, name), name))
    return words
