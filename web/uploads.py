"""Uploaded files between the browser and the library: ``home/uploads/<hash>/<name>``.

A file stays until it was added or the user lets go of it, so that a stopped job can go on, even after
the server was stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from index.errors import MossAgentError

_NOTE = "job.json"


@dataclass(frozen=True)
class Upload:
    """A file that a browser sent.

    Attributes:
        path: The file.
        title: What the user called it.
        speakers: Number of speakers when the user gave one.
    """

    path: Path
    title: str
    speakers: int | None = None


class Uploads:
    """The folder of uploads.

    Args:
        folder: Where Gradio puts what browsers send; nothing else may lie there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)

    def claim(self, path: str, title: str, speakers: int | None) -> Upload:
        """Take charge of an uploaded file, which the browser names by its path on this machine.

        Raises:
            MossAgentError: The path is not that of an upload. A browser may ask for any path.
        """
        file = Path(path).resolve()
        if file.parent.parent != self.folder or not file.is_file():
            raise MossAgentError("This file did not arrive; please choose it again.")
        upload = Upload(file, title.strip() or file.stem, speakers)
        note = {**asdict(upload), "path": file.name}
        (file.parent / _NOTE).write_text(json.dumps(note), encoding="utf-8")
        return upload

    def left_over(self) -> Iterator[Upload]:
        """Uploads of an earlier run that were not added; folders without one are deleted."""
        for folder in sorted(one for one in self.folder.iterdir() if one.is_dir()):
            try:
                note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
                upload = Upload(folder / note["path"], note["title"], note["speakers"])
            except (OSError, ValueError, KeyError):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            if upload.path.is_file():
                yield upload
            else:
                shutil.rmtree(folder, ignore_errors=True)
