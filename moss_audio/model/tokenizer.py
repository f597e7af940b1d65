"""The text tokenizer of a checkpoint: from one file (``tokenizer.json``) or, as released, from several.

Released checkpoints hold ``vocab.json``, ``merges.txt`` and ``added_tokens.json``. The tokenizer is built
from these directly, so that every added token keeps the id that is written there; transformers would
number them on from the vocabulary's end.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer

from moss_audio.errors import CheckpointError

FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "processor_config.json",
    "config.json",
)
"""Files of a checkpoint that the processor reads."""


def checkpoint_folder(name_or_folder: str | Path, **hub: Any) -> Path:
    """The folder of a checkpoint's small files; fetched from the Hub when it is a name.

    Args:
        name_or_folder: A local folder, or a model's name on the Hugging Face Hub.
        **hub: ``revision``, ``cache_dir``, ``token`` of the Hub; ``local_files_only`` stays here.

    Raises:
        CheckpointError: No such folder, or the Hub does not give the files.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    local_files_only = hub.pop("local_files_only", False)
    fetch = partial(snapshot_download, str(name_or_folder), allow_patterns=list(FILES), **hub)
    try:
        here = Path(fetch(local_files_only=True))
        if has_tokenizer(here):
            return here
    except HFValidationError as error:
        raise CheckpointError(f"There is no folder {name_or_folder}.") from error
    except LocalEntryNotFoundError:
        pass
    if local_files_only:
        raise CheckpointError(
            f"The tokenizer of {name_or_folder} is not on this machine, and local_files_only forbids "
            "downloading it; leave that option out, or give the folder of a checkpoint."
        )
    try:
        return Path(fetch())
    except Exception as error:  # the Hub's client raises errors of several libraries
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"The tokenizer of {name_or_folder} is not on this machine and could not be downloaded ({why}); "
            "give the folder of a checkpoint, or try again with a connection."
        ) from error


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer in one of the two forms."""
    return (folder / "tokenizer.json").is_file() or all(
        (folder / name).is_file() for name in ("vocab.json", "merges.txt")
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint's folder, with its chat template where there is one.

    Raises:
        CheckpointError: The folder has no tokenizer, or a file of it cannot be read.
    """
    if not has_tokenizer(folder):
        raise CheckpointError(
            f"{folder} has no tokenizer: it needs tokenizer.json, or vocab.json and merges.txt."
        )
    if (folder / "tokenizer.json").is_file():
        try:
            return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # tokenizers raises bare Exception on a broken file
            raise CheckpointError(f"{folder / 'tokenizer.json'} cannot be read: {error}") from error
    return _from_parts(folder)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file.

    Raises:
        CheckpointError: The file is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return content


def _from_parts(folder: Path) -> PreTrainedTokenizerBase:
    config = read_json(folder / "tokenizer_config.json")
    added = _added_tokens(folder, config)
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#version")]
    # Added tokens are put into the vocabulary as well: that is what fixes their ids.
    vocab = read_json(folder / "vocab.json") | {token.content: number for number, token in added.items()}
    try:
        tokenizer = Qwen2Tokenizer(
            vocab=vocab,
            merges=merges,
            eos_token=_text_of(config.get("eos_token")) or "<|im_end|>",
            pad_token=_text_of(config.get("pad_token")) or "<|endoftext|>",
            unk_token=None,
            model_max_length=config.get("model_max_length"),
            chat_template=_template(folder, config),
        )
    except Exception as error:  # tokenizers raises bare Exception on a broken file
        raise CheckpointError(f"The tokenizer in {folder} cannot be built: {error}") from error
    tokenizer.add_tokens([added[number] for number in sorted(added)])
    return tokenizer


def _added_tokens(folder: Path, config: dict[str, Any]) -> dict[int, AddedToken]:
    """Added tokens by id; control tokens as ``tokenizer_config.json`` says, else by their ``<|…|>``."""
    added = {
        int(number): AddedToken(content, special=_is_control(content), normalized=False)
        for content, number in read_json(folder / "added_tokens.json").items()
    }
    for number, token in (config.get("added_tokens_decoder") or {}).items():
        special = bool(token.get("special", _is_control(token["content"])))
        added[int(number)] = AddedToken(token["content"], special=special, normalized=False)
    return added


def _is_control(content: str) -> bool:
    return content.startswith("<|") and content.endswith("|>")


def _text_of(token: Any) -> str | None:
    """A token of ``tokenizer_config.json``, written as a string or as an object."""
    return token.get("content") if isinstance(token, dict) else token


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.is_file() else config.get("chat_template")
