"""The host's own list of nodes, as its server's /object_info has it."""

import asyncio
from functools import lru_cache

import nodes as host_nodes

NEEDS_A_SERVER = ["nodes_replacements.py"]  # of comfy_extras: it has no nodes


@lru_cache
def host_list():
    """Classes of nodes by name, those of comfy_extras too; takes seconds."""
    failed = asyncio.run(host_nodes.init_builtin_extra_nodes())
    if failed != NEEDS_A_SERVER:
        raise RuntimeError(f"Expected all of the host's own nodes, but these could not be imported: {failed}.")
    return dict(host_nodes.NODE_CLASS_MAPPINGS)
