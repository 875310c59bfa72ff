"""Real pictures and clips, where the environment variable EDGETAM_MEDIA names a folder with them."""

import os
from pathlib import Path


def media(name: str) -> Path | None:
    folder = os.environ.get("EDGETAM_MEDIA")
    if not folder:
        return None
    path = Path(folder) / name
    assert path.exists(), f"EDGETAM_MEDIA: there is no {path}"
    return path
