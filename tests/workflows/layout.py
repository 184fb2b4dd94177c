"""What a saved graph looks like on the canvas, and whether its links agree with its sockets; plain JSON, no host."""

TITLE = 30  # pixels of a node's title bar, above its `pos`
NOTES = {"MarkdownNote", "Note"}


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
