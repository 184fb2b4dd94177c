"""What a saved graph looks like on the canvas, and whether its links agree with its sockets; plain JSON, no host."""

import itertools
import math

TITLE = 30  # pixels of a node's title bar, above its `pos`
NOTES = {"MarkdownNote", "Note"}
WINDOW = (1600, 950)  # pixels of the page's canvas on a common screen
FITTED, MARGIN = 0.75, 10  # the share of the window that an opened template fills, and what is kept around the nodes
LEGIBLE = 8 / 14  # below it the page draws no text: fonts of 14 pixels that would be smaller than 8
INSET = 16  # pixels inside a node where a link may lie: its sockets do


def rectangle(node):
    """(left, top, right, bottom) of a node with its title bar."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def boxed(group):
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


def overlapping(rectangles):
    """Names of the pairs that share area; `rectangles` by name."""
    named = list(rectangles.items())
    return [
        (one, other)
        for i, (one, a) in enumerate(named)
        for other, b in named[i + 1 :]
        if min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])
    ]


def inside(a, b):
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def layout_faults(graph):
    """Sentences about nodes on top of each other, groups on top of each other, nodes outside of every group."""
    titles = {node["id"]: f"{node['type']} ({node['id']})" for node in graph["nodes"]}
    nodes = {titles[node["id"]]: rectangle(node) for node in graph["nodes"]}
    groups = {group["title"]: boxed(group) for group in graph["groups"]}
    faults = [f"{a} and {b} overlap" for a, b in overlapping(nodes) + overlapping(groups)]
    for node in graph["nodes"]:
        held = [title for title, box in groups.items() if inside(nodes[titles[node["id"]]], box)]
        if node["type"] not in NOTES and len(held) != 1:
            faults.append(f"{titles[node['id']]} lies in {len(held)} groups")
    for title, box in groups.items():
        if not any(inside(place, box) for place in nodes.values()):
            faults.append(f"the group {title} is empty")
    return faults


def link_faults(nodes, links):
    """Sentences about links that do not agree with the sockets they name; links as (id, from, slot, to, slot, type).

    nodes: by id, with `inputs` and `outputs`, the ends of a subgraph as nodes of their own.
    """
    faults = []
    for link, origin, out, target, into, kind in links:
        source, sink = nodes[origin]["outputs"][out], nodes[target]["inputs"][into]
        if link not in (source["links"] or []) or sink["link"] != link:
            faults.append(f"link {link} is not known at both of its ends")
        if not {kind, "*"} & {source["type"]} or not {kind, "*"} & {sink["type"]}:
            faults.append(f"link {link} of {kind} joins {source['type']} and {sink['type']}")
    known = {link[0] for link in links}
    held = [i["link"] for node in nodes.values() for i in node["inputs"] if i["link"] is not None]
    held += [link for node in nodes.values() for o in node["outputs"] for link in o["links"] or []]
    return faults + [f"link {link} dangles" for link in set(held) - known]


def scale_as_opened(graph):
    """The zoom at which the page shows a template that is opened in WINDOW, as its `fitToBounds` does it."""
    boxes = [rectangle(node) for node in graph["nodes"]]
    width = max(box[2] for box in boxes) - min(box[0] for box in boxes) + 2 * MARGIN
    height = max(box[3] for box in boxes) - min(box[1] for box in boxes) + 2 * MARGIN
    return FITTED * min(WINDOW[0] / width, WINDOW[1] / height)


def hidden_links(graph):
    """Sentences about links that run behind a node, drawn as the page does, between its reroutes."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    last = {entry["id"]: entry["parentId"] for entry in graph["extra"].get("linkExtensions", [])}
    reroutes = {entry["id"]: entry for entry in graph["extra"].get("reroutes", [])}
    faults = []
    for link, origin, out, target, into, _ in graph["links"]:
        stops = []
        place = last.get(link)
        while place is not None:
            stops.insert(0, reroutes[place]["pos"])
            place = reroutes[place].get("parentId")
        points = curve(socket(nodes[origin], out, "outputs"), stops, socket(nodes[target], into, "inputs"))
        for node in graph["nodes"]:
            left, top, right, bottom = rectangle(node)
            if any(left + INSET < x < right - INSET and top < y < bottom for x, y in points):
                faults.append(f"link {link} runs behind {node['type']} ({node['id']})")
    return faults


def socket(node, slot, side):
    """Where a link ends at a node: sockets without a widget stand one below the other, widgets below them."""
    plain = [i for i, entry in enumerate(node[side]) if "widget" not in entry]
    row = plain.index(slot) if slot in plain else len(plain) + slot
    x, y = node["pos"]
    return (x + 10 if side == "inputs" else x + node["size"][0] - 10), y + 20 * (row + 0.7)


def curve(start, stops, end):
    """Points of a link: horizontal where it leaves and where it arrives, straight through its reroutes."""
    places = [start, *stops, end]
    points = []
    for i, (a, b) in enumerate(itertools.pairwise(places)):
        pull = math.dist(a, b) / 4
        one = (a[0] + pull, a[1]) if i == 0 else a
        other = (b[0] - pull, b[1]) if i == len(places) - 2 else b
        points += [bezier(a, one, other, b, t / 60) for t in range(61)]
    return points


def bezier(a, b, c, d, t):
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    return tuple(sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
