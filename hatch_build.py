"""Makes the README of the package: a page elsewhere than the repository has none of its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK: Final = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
_PICTURE: Final = re.compile(r"<picture>.*?</picture>\n*", re.DOTALL)
_REMARK: Final = re.compile(r"<!--.*?-->\n*", re.DOTALL)


def package_readme(text: str, repository: str | None = None) -> str:
    """A README whose links hold wherever it is shown.

    Args:
        text: The README of the repository.
        repository: Address of the repository, to which relative links then lead; without one, only
            their words stay.

    >>> package_readme("See [the guide](docs/guide.md) and [pandas](https://pandas.pydata.org).")
    'See the guide and [pandas](https://pandas.pydata.org).'
    >>> package_readme("See [the guide](docs/guide.md).", "https://git.example/me/it")
    'See [the guide](https://git.example/me/it/blob/main/docs/guide.md).'
    """
    text = _REMARK.sub("", _PICTURE.sub("", text))
    if repository is None:
        return _LINK.sub(r"\1", text)
    return _LINK.sub(rf"[\1]({repository.rstrip('/')}/blob/main/\2)", text)


class ReadmeHook(MetadataHookInterface):
    """Gives the package this README."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the README in the metadata of the project."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        content = package_readme(text, repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": content}
