"""A real kernel of a notebook, without a front end."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import nbformat
from jupyter_client.manager import start_new_kernel
from nbformat import v4

from tests.keys import VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

Message = tuple[str, dict[str, Any]]
"""Kind and content of a message from a kernel."""

KEYRING_FILE: Final = "keyring.json"

_KEYRING_MODULE: Final = """
import json, os, pathlib
import keyring.backend

class File(keyring.backend.KeyringBackend):
    priority = 9
    path = pathlib.Path(os.environ.get("KEYRING_FILE", "keyring.json"))

    def _all(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get_password(self, service, username):
        return self._all().get(f"{service} {username}")

    def set_password(self, service, username, password):
        if os.environ.get("KEYRING_BROKEN"):
            raise RuntimeError("no")
        self.path.write_text(json.dumps(self._all() | {f"{service} {username}": password}))
"""


class Kernel:
    """A kernel whose keyring is a file in its folder.

    Args:
        folder: Where it keeps its files.
        typed_key: The answer to every prompt, or None for a notebook that nobody sits at.
        **environment: Environment variables.

    Attributes:
        contents: The content of every message so far.
        prompts: The prompts so far.
        errors: Names of the exceptions so far.
    """

    def __init__(self, folder: Path, typed_key: str | None = None, **environment: str) -> None:
        (folder / "file_keyring.py").write_text(_KEYRING_MODULE)
        self.folder, self._typed_key = folder, typed_key
        env = {name: value for name, value in os.environ.items() if name != VARIABLE}
        env |= {
            "PYTHONPATH": str(folder),
            "PYTHON_KEYRING_BACKEND": "file_keyring.File",
            "KEYRING_FILE": str(folder / KEYRING_FILE),
            "IPYTHONDIR": str(folder / "ipython"),
            **environment,
        }
        self._manager, self._client = start_new_kernel(kernel_name="python3", env=env)
        self.contents: list[dict[str, Any]] = []
        self.prompts: list[str] = []
        self.errors: list[str] = []
        self._cells: list[Any] = []

    def run(self, code: str) -> str:
        """Run a cell; returns its outputs as JSON."""
        return json.dumps(self._run(code)[1])

    def messages(self, code: str, *, interrupt_at: str | None = None) -> list[Message]:
        """Run a cell; returns its messages.

        Args:
            code: The cell.
            interrupt_at: Interrupt the kernel when the cell prints this.
        """
        return self._run(code, interrupt_at)[0]

    def _run(self, code: str, interrupt_at: str | None = None) -> tuple[list[Message], list[Any]]:
        cell_id = self._client.execute(code, allow_stdin=self._typed_key is not None)
        messages: list[Message] = []
        outputs = []
        while True:
            if self._client.stdin_channel.msg_ready():
                self.prompts.append(self._client.get_stdin_msg()["content"]["prompt"])
                self._client.input(self._typed_key or "")
            if not self._client.iopub_channel.msg_ready():
                self._client.iopub_channel.socket.poll(50)
                continue
            message = self._client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            self.contents.append(content)
            if message["parent_header"].get("msg_id") != cell_id:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                break
            messages.append((kind, content))
            if kind in ("stream", "execute_result", "display_data", "error"):
                outputs.append(v4.output_from_msg(message))  # type: ignore[no-untyped-call]
            if kind == "error":
                self.errors.append(content["ename"])
            if kind == "stream" and interrupt_at and interrupt_at in content["text"]:
                self._manager.interrupt_kernel()
        self._cells.append(v4.new_code_cell(code, outputs=outputs))  # type: ignore[no-untyped-call]
        return messages, outputs

    def close(self) -> str:
        """End the kernel; returns all that it left: messages, the notebook's file, the history."""
        notebook = v4.new_notebook(cells=self._cells)  # type: ignore[no-untyped-call]
        nbformat.write(notebook, self.folder / "cells.ipynb")  # type: ignore[no-untyped-call]
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)
        files = [
            path.read_bytes().decode("utf-8", "replace")
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != KEYRING_FILE
        ]
        return json.dumps(self.contents, default=str) + "".join(files)


def streams(messages: list[Message]) -> str:
    """What the cell of these messages prints and warns of."""
    return "".join(content["text"] for kind, content in messages if kind == "stream")
