"""The metrics of Tables 2-6 behind one interface, each with the backbone that lies on the user's disk.

    score = SCORES["clap"]
    score.missing(models) or score.compute(generated, real, models)

`models` is ComfyUI's models folder. Where weights or a package are missing, `missing` says so in one sentence and
`compute` refuses with the same one. `score.measure` is the slow part alone, for shards; `averaged` takes the mean over
prompts and window positions as the paper does. A name with @ is the same column by another backbone.
"""

from . import cost, tables
from .interface import Measures, Samples, Score, averaged

SCORES: dict[str, Score] = {score.name: score for score in (*tables.COLUMNS, *cost.SCORES, *tables.OTHER_EMBEDDINGS)}

__all__ = ["SCORES", "Measures", "Samples", "Score", "averaged"]
