"""``from_pretrained``, ``save_pretrained`` and ``processor`` of the model: around transformers', checked.

A mixin, so that the model inherits it and nothing about files stands in the model's own file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from moss_audio.checkpoints import files
from moss_audio.checkpoints.hub import HUB_OPTIONS, resolve
from moss_audio.checkpoints.memory import Place, ran_out
from moss_audio.errors import CheckpointError
from moss_audio.model.config import MossAudioConfig
from moss_audio.model.processor import MossAudioProcessor


class PretrainedMixin:
    """Loading and saving; stands before transformers' ``PreTrainedModel`` among a model's bases."""

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path | None, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint: a folder, or a name on the Hugging Face hub.

        Everything that ``transformers`` takes may be given (``device_map``, ``attn_implementation``, …).
        Unlike there, weights are bfloat16 unless ``dtype`` says otherwise, every tensor of the checkpoint
        must be used, once, and every tensor of the model be found.

        Raises:
            CheckpointError: Missing, unreachable, or not this model's; names every tensor that does not fit.
            NotEnoughMemory: The weights do not fit; checked before they are read where all of them go to one
                device, and before a released checkpoint is downloaded.
        """
        load = super().from_pretrained  # type: ignore[misc]
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", torch.bfloat16)
        if name_or_folder is None or kwargs.get("state_dict") is not None:
            return load(name_or_folder, *args, **kwargs)
        place = Place.of(kwargs)
        place.check_released(str(name_or_folder))
        hub = {name: kwargs.pop(name) for name in HUB_OPTIONS if name in kwargs}
        folder = resolve(str(name_or_folder), **hub)
        config = kwargs.get("config")
        if not isinstance(config, MossAudioConfig):
            config = files.read_config(folder if config is None else Path(config))
            kwargs["config"] = config
        if not kwargs.get("ignore_mismatched_sizes"):
            files.check_tensors(folder, cls.expected_shapes(config))
        place.check(str(name_or_folder), folder)
        try:
            loaded = load(folder, *args, **kwargs)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            if ran_out(error):
                raise place.used_up(str(name_or_folder), folder) from error
            raise CheckpointError(f"The checkpoint in {folder} could not be loaded: {error}") from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._folder = folder
        generation = model.generation_config
        if generation is not None and not isinstance(getattr(generation, "thinking", None), bool):
            # The released checkpoints say this in their names alone, which a copy saved elsewhere would lose.
            generation.thinking = files.thinks(folder, str(name_or_folder))
        return loaded

    @classmethod
    def expected_shapes(cls, config: MossAudioConfig) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor a checkpoint of these sizes holds; nothing is allocated."""
        with torch.device("meta"):
            model: Any = cls(config)  # type: ignore[call-arg]
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        if config.tie_word_embeddings:
            del shapes["lm_head.weight"]
        return shapes

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Write a checkpoint in the form of the released ones, tokenizer and processor included if known.

        Weights that an earlier save left in the folder are replaced, also where those were one file and
        these are several.

        Raises:
            OSError: The folder cannot be written.
        """
        folder = Path(folder)
        before = files.signature(folder)
        super().save_pretrained(folder, **kwargs)  # type: ignore[misc]
        files.remove_stale(folder, before)
        config = folder / "config.json"
        if config.exists():
            content = json.loads(config.read_text(encoding="utf-8"))
            content["architectures"] = ["MossAudioModel"]
            config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if self._processor is not None or self._folder is not None:
            try:
                self.processor.save_pretrained(folder)
            except CheckpointError:
                return  # the folder it was loaded from has no tokenizer

    # Where the weights were loaded from, and the processor once it was asked for.
    _folder: Path | None = None
    _processor: MossAudioProcessor | None = None

    @property
    def processor(self) -> MossAudioProcessor:
        """The processor of the folder this model was loaded from, or the one that was set.

        Raises:
            CheckpointError: The folder has no tokenizer, or the model was not loaded from one.
        """
        if self._processor is None:
            if self._folder is None:
                raise CheckpointError(
                    "This model was not loaded from a checkpoint, so it has no processor: set `processor`."
                )
            self._processor = MossAudioProcessor.from_pretrained(self._folder)
        return self._processor

    @processor.setter
    def processor(self, processor: MossAudioProcessor) -> None:
        self._processor = processor
