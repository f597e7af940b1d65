"""What can go wrong with the model, as one small tree.

    MossAudioError            one sentence for the user: what happened, and what to do
    ├── AudioError            the audio cannot be heard: missing, too short, not numbers, not media
    ├── PromptError           the prompt and its audio do not fit together
    ├── CheckpointError       the weights are missing, unreachable, or not what the model needs
    ├── NotEnoughMemory       the model does not fit here; says how much is needed and what is there
    ├── MemoryUsedUp          the device's memory ran out though this should have fitted; later it may
    ├── DataError             a line of a data file (fine-tuning, evaluation) cannot be used
    └── ServerError           a model behind a server cannot be reached, or did not answer as asked

Errors of libraries are mapped to these at the border with ``raise … from``.
"""

from typing import Literal

ServerTrouble = Literal[
    "address",
    "unreachable",
    "unauthorised",
    "unknown-model",
    "deaf",
    "too-long",
    "refused",
    "busy",
    "slow",
    "failed",
    "broken",
    "closed",
]
"""What kind of thing went wrong with a server; ``busy``, ``slow``, ``failed`` and ``broken`` may pass."""


class MossAudioError(Exception):
    """Base of every error whose text may be shown to a user as it is."""


class AudioError(MossAudioError):
    """The audio cannot be used."""


class PromptError(MossAudioError):
    """The prompt and its audio do not fit together."""


class CheckpointError(MossAudioError):
    """The checkpoint cannot be loaded as it is."""


class NotEnoughMemory(MossAudioError):
    """The model needs more memory than there is."""


class MemoryUsedUp(MossAudioError):
    """The device's memory ran out in the middle of the work; the request is not at fault."""


class QueueFull(MossAudioError):
    """Too many requests wait; try again later."""


class DataError(MossAudioError):
    """A line of a data file cannot be used; the message names file and line."""


class ServerError(MossAudioError):
    """A served model cannot be used, or did not answer as asked.

    Attributes:
        trouble: The kind of it, for a program that has another way.
    """

    def __init__(self, message: str, trouble: ServerTrouble = "failed") -> None:
        super().__init__(message)
        self.trouble = trouble
