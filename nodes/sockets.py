"""Socket types of the pack (everything else uses the host's own), and where its nodes are found."""

from comfy_api.latest import io

SaFaPlan = io.Custom("SAFA_PLAN")
SaFaJoin = io.Custom("SAFA_JOIN")
SaFaGuide = io.Custom("SAFA_GUIDE")

CATEGORY = "SaFa"
# what people type who look for planner or sampler: the page searches ids, titles and aliases, in any language
SEARCH_WORDS = (
    *("panorama", "360", "seamless", "loop", "infinite", "long audio", "tile", "tiled diffusion", "context window"),
    *("全景", "无缝", "循环", "无限", "长音频", "平铺", "分块扩散", "上下文窗口"),
)
