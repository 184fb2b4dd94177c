"""The metrics of Tables 2-6 and of the pocket model behind one interface, each with its backbone.

    score = SCORES["clap"]
    score.missing(models) or score.compute(generated, real, models)

`models` is ComfyUI's models folder. Where weights or a package are missing, `missing` says so in one sentence and
`compute` refuses with the same one. `score.measure` is the slow part alone, for shards; `averaged` takes the mean over
prompts and window positions as the paper does. A name with @ is the same column by another backbone.
"""

from . import cost, pocket, seams, tables, yamnet
from .cost import COSTS
from .interface import Measures, Samples, Score, averaged

ALL = (*tables.COLUMNS, *cost.SCORES, *tables.OTHER_EMBEDDINGS, *yamnet.SCORES, *seams.SCORES, *pocket.SCORES)
SCORES: dict[str, Score] = {score.name: score for score in ALL}

__all__ = ["COSTS", "SCORES", "Measures", "Samples", "Score", "averaged"]
