// The panels' own words, in English and Chinese. "{name}" is filled in.

import {app} from "../../../scripts/app.js"

const CHINESE = {
    "{views} view of {view} on {length}": "{views} 个视图，每个 {view}，共 {length}",
    "{views} views of {view} on {length}": "{views} 个视图，每个 {view}，共 {length}",
    ", loop": "，循环",
    "overlap {overlap} %; {views} window per step, MultiDiffusion {rival}": "重叠 {overlap} %；每步 {views} 个窗口，MultiDiffusion 需 {rival} 个",
    "overlap {overlap} %; {views} windows per step, MultiDiffusion {rival}": "重叠 {overlap} %；每步 {views} 个窗口，MultiDiffusion 需 {rival} 个",
    "{name} {value} rounded to {rounded}": "{name} {value} 取整为 {rounded}",
    "The length comes from another node: the plan is drawn after a run.": "长度由其他节点给出：运行后绘制规划。",
    "{model} counts in {its}, but unit is {unit}; choose auto or latent.": "{model} 以 {its} 计数，但 unit 为 {unit}；请选择 auto 或 latent。",
    "{canvas} is less than one view, {view}: ask for more, or set a smaller view.": "{canvas} 不足一个视图（{view}）：请加长，或减小 view。",
    "About {views} views are more than can be planned: choose a smaller length or overlap.": "约 {views} 个视图，超出可规划的数量：请减小 length 或 overlap。",
    "The model is not known before a run: type length and view to see a plan.": "运行前尚不了解该模型：填写 length 和 view 即可看到规划。",
    "The model is not known before a run: drawn without whole columns": "运行前尚不了解该模型：未按整列绘制",
    "The sound plays here after a run.": "运行后可在此播放声音。",
    "The picture is shown here after a run.": "运行后可在此查看画面。",
    "The sound is no longer there; run again.": "声音已不存在，请重新运行。",
    "The picture is no longer there; run again.": "画面已不存在，请重新运行。",
    "Too long to be held here; play the saved file.": "太长，无法在此载入；请播放保存的文件。",
    "Neither WAV nor FLAC; play the saved file.": "既非 WAV 也非 FLAC；请播放保存的文件。",
    "This browser draws no sphere (WebGL is off).": "此浏览器无法显示球面（WebGL 已关闭）。",
    "Click to go there; space plays": "点击跳到该处；空格键播放",
    "Play or pause": "播放或暂停",
    "Play it round and round": "循环播放",
    "Volume": "音量",
    "Seam": "接缝",
    "Play from {seconds} seconds before the seam": "从接缝前 {seconds} 秒开始播放",
    "Views": "视图",
    "Overlaps": "重叠",
    "Show the plan's views": "显示规划的视图",
    "Show the plan's overlaps": "显示规划的重叠",
    "The next clip of the batch": "批次中的下一段",
    "Drag, or click and scroll": "拖动，或点击后滚动",
    "Sphere": "球面",
    "Look around in a 2:1 picture": "在 2:1 画面中环顾",
    "Full screen": "全屏",
    "Escape ends it": "按 Esc 退出",
    "The next picture of the batch": "批次中的下一幅",
    "px": "像素",
    "s": "秒",
    "columns": "列",
}

// A sentence in the page's language; English where there is no other.
export function say(sentence, values = {}) {
    const locale = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"
    const words = locale.startsWith("zh") ? CHINESE[sentence] ?? sentence : sentence
    return words.replace(/\{(\w+)\}/g, (_, name) => values[name])
}
