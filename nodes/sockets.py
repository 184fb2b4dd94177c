"""Socket types of the pack; everything else uses the host's own."""

from comfy_api.latest import io

SaFaPlan = io.Custom("SAFA_PLAN")
SaFaJoin = io.Custom("SAFA_JOIN")
SaFaGuide = io.Custom("SAFA_GUIDE")

CATEGORY = "SaFa"
