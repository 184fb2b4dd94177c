// The pack's extension of ComfyUI's page. Without it every node works too, as the host shows it.

import {app} from "../../../scripts/app.js"
import {LoopPlayer} from "./loop_player.js"
import {PlanPanel} from "./plan_panel.js"
import {RingViewer} from "./ring_viewer.js"
import {listen, saidBy, speakers} from "./said.js"
import {colourScore, colourSockets} from "./sockets.js"
import {SPOKEN, TextPanel} from "./text_panel.js"
import {workflowOf} from "./wav.js"

const PANELS = {
    SaFaSubviewPlanner: node => new PlanPanel(node),
    SaFaSaveLoop: node => new LoopPlayer(node),
    SaFaMelDecode: node => new LoopPlayer(node),
    SaFaRollHalf: node => new LoopPlayer(node),
    SaFaLoopDecode: node => new RingViewer(node),
    SaFaRiffusionDecode: node => new TextPanel(node, SPOKEN),
    SaFaPromptTimeline: node => new TextPanel(node, SPOKEN),
    SaFaSpectrumReport: node => new TextPanel(node, SPOKEN),
}
const PAUSE = 500 // ms between looks for nodes of others that said something

function loadStyle() {
    const link = document.createElement("link")
    link.rel = "stylesheet"
    link.href = new URL("./safa.css", import.meta.url)
    document.head.append(link)
}

// A WAV that Save Loop wrote opens its workflow, as the host's own FLAC and PNG do.
function openWavs() {
    const handleFile = app.handleFile
    app.handleFile = async function (file, ...rest) {
        const found = await workflowOf(file)
        if (!found) return handleFile.call(this, file, ...rest)
        const name = file.name.replace(/\.\w+$/, "")
        if (found.workflow) return this.loadGraphData(found.workflow, true, true, name, {openSource: rest[0]})
        return this.loadApiJson(found.prompt, name)
    }
}

// Nodes of the host, too, say something of the pack's: the words of a prompt that the model does not know.
function giveVoices() {
    for (const id of speakers()) {
        const node = app.graph.getNodeById(id.includes(":") ? id : Number(id))
        if (!node || node.type in PANELS || node.safaVoice || !saidBy(node).safa_text) continue
        node.safaVoice = new TextPanel(node)
    }
}

app.registerExtension({
    name: "SaFa",
    init() {
        loadStyle()
        listen()
        openWavs()
    },
    setup() {
        colourSockets(app, window.LGraphCanvas)
        setInterval(giveVoices, PAUSE)
    },
    nodeCreated(node) {
        PANELS[node.comfyClass]?.(node)
        colourScore(node)
    },
})
