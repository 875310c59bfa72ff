"""A hook of hatchling: what package indexes show is README.md without what only the repository has.

Nobody there can follow a link to a file or see a picture that is one. Pictures go, of links the words stay.
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
