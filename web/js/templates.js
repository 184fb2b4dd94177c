// The server lists a pack's workflows in the order of its file system; in the order of their names, the first loop is first.
import {api} from "../../../scripts/api.js"

const pack = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-3))
const getWorkflowTemplates = api.getWorkflowTemplates

api.getWorkflowTemplates = async function () {
    const templates = await getWorkflowTemplates.call(this)
    templates[pack]?.sort((one, other) => one.localeCompare(other))
    return templates
}
