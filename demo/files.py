"""Files that appear under their names only when they are whole."""

import os
from pathlib import Path


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder, made if need be: all under temporary names first, then renamed (OSError)."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f".{name}.part" for name in files}
    try:
        for name, content in files.items():
            parts[name].write_bytes(content)
        for name, part in parts.items():
            os.replace(part, folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
