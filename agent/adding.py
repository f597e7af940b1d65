"""Taking several files in: one after another, or some at a time where that keeps the engine busy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path

from agent.workspace import Workspace
from index.pipeline.urgency import archiving
from index.progress import Report
from index.recording_errors import MossAgentError
from index.records import Recording


def add_files(
    workspace: Workspace,
    files: Sequence[Path],
    reporting: Callable[[str], Report],
    title: str | None = None,
    speakers: int | None = None,
    language: str | None = None,
    told: Callable[[Path, str], None] | None = None,
    track: int | None = None,
    again: bool = False,
    drop_corrections: bool = False,
) -> Iterator[tuple[Path, Recording | MossAgentError]]:
    """Take files in, as many at a time as the workspace's engine is good for.

    Args:
        workspace: Where they go.
        files: Any media files.
        reporting: Gives a file's name the function that is told how far it is.
        title: See ``Workspace.add``.
        speakers: See ``Workspace.add``.
        language: See ``Workspace.add``.
        told: Called with a file and what happened to it that was there already; see ``Workspace.add``.
        track: See ``Workspace.add``.
        again: See ``Workspace.add``.
        drop_corrections: See ``Workspace.add``.

    Returns:
        Each file in the order given, with its recording or what went wrong with it.

    Raises:
        MossAgentError: It was interrupted from the keyboard; what was transcribed is kept.
    """
    cancel = threading.Event()

    def add(file: Path) -> Recording | MossAgentError:
        try:
            tell = None if told is None else partial(told, file)
            report = reporting(file.name)
            # Somebody waits for one file; many are an archive.
            with archiving(len(files) > 1):
                return workspace.add(
                    file, title, speakers, report, cancel, language, tell, track, again, drop_corrections
                )
        except MossAgentError as error:
            return error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # Whatever it is, also the panic of a library written in Rust, it is about this file alone.
            return unexpected(file, error)

    pool = ThreadPoolExecutor(workspace.files_at_once if len(files) > 1 else 1, "adding")
    at = files[0]
    try:
        for at, future in [(file, pool.submit(copy_context().run, add, file)) for file in files]:
            yield at, future.result()
    except KeyboardInterrupt:
        raise MossAgentError(
            f"Stopped at {at.name}; what was transcribed is kept: add it again to resume."
        ) from None
    finally:
        cancel.set()
        pool.shutdown(cancel_futures=True)


def unexpected(file: Path, error: BaseException) -> MossAgentError:
    """The sentence for an error that nobody foresaw."""
    kind, text = type(error).__name__, " ".join(str(error).split())[:300]
    failure = MossAgentError(f"{file.name} could not be added: unexpected error ({kind}: {text}).")
    failure.__cause__ = error
    return failure
