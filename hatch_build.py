"""Makes the README and the links of the package: its page has none of the repository's files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE: Final = "CDP_BACKFILL_REPOSITORY"
"""Variable of the environment with the address of the repository, instead of git's ``origin``."""

_LINK: Final = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
_PICTURE: Final = re.compile(r"<picture>.*?</picture>\n*", re.DOTALL)
_REMARK: Final = re.compile(r"<!--.*?-->\n*", re.DOTALL)
_ADDRESS: Final = re.compile(
    r"(?:https://(?:[^/@\s]+@)?|ssh://(?:[^/@\s]+@)?|[\w.-]+@(?=[^/\s]+:))"  # maybe with a password
    r"(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)+)(?P<port>:\d+(?=/))?[:/]"
    r"(?P<path>[\w.~/-]+?)(?:\.git)?/?",
    re.IGNORECASE | re.ASCII,
)
_FILES: Final = {"gitlab": "-/blob/main", "bitbucket": "src/main"} | dict.fromkeys(
    ("codeberg", "gitea", "forgejo"), "src/branch/main"
)
"""Where a forge shows files, by a word in its host; elsewhere it is ``blob/main``."""


def web_address(remote: str) -> str | None:
    """The page of a repository, without names and passwords; None if it has none.

    Args:
        remote: Address of the repository for git.

    >>> web_address("git@git.example.com:me/it.git")
    'https://git.example.com/me/it'
    >>> web_address("/srv/it.git") is None
    True
    """
    match = _ADDRESS.fullmatch(remote.strip())
    if match is None:
        return None
    port = match["port"] or "" if remote.strip().lower().startswith("https:") else ""
    return f"https://{match['host']}{port}/{match['path'].strip('/')}"


def repository_of(folder: str) -> str | None:
    """The page of the repository that a folder is the top of; None if it has none.

    Raises:
        ValueError: The variable of the environment is no address of a repository.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        address = web_address(named)
        if named and address is None:
            raise ValueError(
                f"{VARIABLE} must be an https or ssh address of a repository, such as "
                "https://git.example.com/me/it, or empty."
            )
        return address
    if not Path(folder, ".git").exists():  # perhaps unpacked inside another repository
        return None
    command = ["git", "-C", folder, "config", "--get", "remote.origin.url"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:  # no git
        return None
    return web_address(answer.stdout)


def files_of(repository: str) -> str:
    """Where the files of a repository are shown.

    >>> files_of("https://gitlab.com/me/it")
    'https://gitlab.com/me/it/-/blob/main'
    """
    host = repository.split("/")[2].lower()
    folder = next((path for word, path in _FILES.items() if word in host), "blob/main")
    return f"{repository}/{folder}"


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
    files = files_of(repository)
    return _LINK.sub(lambda link: f"[{link[1]}]({files}/{link[2]})", text)


def package_urls(repository: str) -> dict[str, str]:
    """The links that the page of the package shows, by their names."""
    files = files_of(repository)
    return {
        "Repository": repository,
        "Documentation": f"{files}/docs/index.md",
        "Changelog": f"{files}/CHANGELOG.md",
        "Issues": f"{repository}/{'-/' if '/-/' in files else ''}issues",
    }


class ReadmeHook(MetadataHookInterface):
    """Gives the package this README and these links."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the README and the links in the metadata of the project."""
        if Path(self.root, "PKG-INFO").exists():  # of an archive that has both already
            return
        repository = repository_of(self.root)
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        content = package_readme(text, repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": content}
        if repository:
            metadata["urls"] = package_urls(repository)
