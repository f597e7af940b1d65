"""The files of a checkpoint's folder, read without loading a weight, and without importing torch.

What does not fit the model is found out from the files' headers, and every tensor that is missing, left over,
stored twice or of another shape is named.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from moss_audio.errors import CheckpointError
from moss_audio.generation.thinking import name_says_thinking

if TYPE_CHECKING:
    from moss_audio.model.config import MossAudioConfig

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

IGNORED = ("audio_encoder.embed_positions.",)
"""Beginnings of names that some relatives of the released checkpoints carry and this model computes."""

NAMED = 12
"""Tensors named in one error; more are counted."""


def thinks(folder: Path, name: str) -> bool:
    """Whether a checkpoint is one that thinks, known before it is loaded.

    Args:
        folder: Where it lies; its ``generation_config.json`` says so if this program wrote it.
        name: What the user called it; the released ones say so in their names alone.
    """
    try:
        said = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("thinking")
    except (OSError, ValueError, AttributeError):
        said = None
    if isinstance(said, bool):
        return said
    return name_says_thinking(name) or name_says_thinking(str(folder))


def read_config(folder: Path) -> MossAudioConfig:
    """The sizes a folder's ``config.json`` gives.

    Raises:
        CheckpointError: None is there, it is another model's, or its sizes cannot be built.
    """
    from moss_audio.model.config import MossAudioConfig

    file = folder / "config.json" if folder.is_dir() else folder
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} holds no config.json, so it is not a checkpoint.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind != MossAudioConfig.model_type:
        raise CheckpointError(f"{file} describes a model of type {kind!r}, not of type 'moss_audio'.")
    try:
        return MossAudioConfig.from_pretrained(folder)
    except Exception as error:
        # The validation of huggingface_hub wraps what our own checks raise; the cause says what is wrong.
        raise CheckpointError(f"{file} does not fit this model: {error.__cause__ or error}") from error


def check_tensors(folder: Path, expected: dict[str, tuple[int, ...]]) -> None:
    """Compare a checkpoint's headers with the model.

    Raises:
        CheckpointError: A tensor is missing, left over, stored twice, or of another shape.
    """
    found: dict[str, tuple[int, ...]] = {}
    wrong: list[str] = []
    for file in weight_files(folder):
        for name, shape in read_header(file).items():
            if name in found:
                wrong.append(f"{name} is stored twice (again in {file.name})")
            found[name] = shape
    optional = {"lm_head.weight"} - expected.keys()
    for name, shape in expected.items():
        if name not in found:
            wrong.append(f"{name} {list(shape)} is missing")
        elif found[name] != shape:
            wrong.append(f"{name} is {list(found[name])} and should be {list(shape)}")
    wrong += [
        f"{name} is not part of this model"
        for name in found
        if name not in expected and name not in optional and not name.startswith(IGNORED)
    ]
    if wrong:
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise CheckpointError(
            f"The weights in {folder} do not fit the model: {'; '.join(wrong[:NAMED])}{more}."
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, all there; those that transformers reads.

    Raises:
        CheckpointError: There are none, one that the index names is missing, or there are two sets.
    """
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if not index.exists():
        if not single.exists():
            raise CheckpointError(f"{folder} holds no weights ({SINGLE_FILE} or {INDEX_FILE}).")
        return [single]
    shards = _indexed(index)
    missing = [shard.name for shard in shards if not shard.exists()]
    # Saving a model in one file, transformers removes the shards of an earlier save and leaves their index.
    if single.exists() and (shards == [single] or len(missing) == len(shards)):
        return [single]
    if single.exists():
        raise CheckpointError(
            f"{folder} holds weights twice, in {SINGLE_FILE} and in the shards of {INDEX_FILE}, and nothing "
            "tells which are meant; delete those that are not."
        )
    if missing:
        raise CheckpointError(f"{folder} is incomplete: {', '.join(missing)} is missing; download it again.")
    return shards


def _indexed(index: Path) -> list[Path]:
    """The shards an index names, there or not."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} cannot be read: {error}") from error
    # A name from a file is never a path.
    return [index.parent / Path(name).name for name in names]


def read_header(file: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a safetensors file, from its header alone.

    Raises:
        CheckpointError: The file is damaged or cut short.
    """
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            length = file.stat().st_size
            if size > length:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(size))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if 8 + size + end > length:
            raise ValueError(f"it has {length:,} bytes and should have {8 + size + end:,}")
        return {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{file} is damaged: {error}; download it again.") from error


Signature = dict[str, tuple[int, int, int]]


def signature(folder: Path) -> Signature:
    """Which of the two forms of weights a folder holds, so that what a save changed can be told."""
    found = {name: folder / name for name in (SINGLE_FILE, INDEX_FILE)}
    stats = {name: file.stat() for name, file in found.items() if file.exists()}
    return {name: (stat.st_mtime_ns, stat.st_ino, stat.st_size) for name, stat in stats.items()}


def remove_stale(folder: Path, before: Signature) -> None:
    """Remove the form of weights that an earlier save left, where this one wrote the other.

    Args:
        folder: Where a model was saved.
        before: Its ``signature`` before that.
    """
    after = signature(folder)
    written = [name for name, stat in after.items() if before.get(name) != stat]
    if len(written) == 1:
        for stale in after.keys() - set(written):
            (folder / stale).unlink()
