"""A hatchling hook: the README for package indexes.

Links to files of the repository and local pictures do not work there, so links become plain text and pictures are
removed.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class PackageReadme(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        page = (Path(self.root) / "README.md").read_text()
        metadata["readme"] = {"content-type": "text/markdown", "text": without_files(page)}


def without_files(page: str) -> str:
    page = re.sub(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n\n?", "", page, flags=re.M)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", page)
