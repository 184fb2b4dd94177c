"""How every library of the pack opens a model's folder: what lies there and nothing else, and no code of it."""

from typing import Any

# transformers and diffusers would else look on the network, and ask in a terminal whether to run the folder's code
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
