"""Which token ids carry audio, and how one recording is laid out in them.

The ids are numbers and are never looked up through a tokenizer: the released tokenizers do not know the
audio tokens. The audio id there is a leftover of vision models (``<|vision_pad|>``), and the ids around the
audio have other names or none.
"""

from __future__ import annotations

from dataclasses import dataclass

TOKENS_PER_MARKER = 25
"""Audio tokens from one time marker to the next: two seconds at 12.5 tokens a second."""

SECONDS_PER_MARKER = 2


@dataclass(frozen=True)
class AudioTokens:
    """Token ids with a meaning of their own; the defaults are those of the released checkpoints.

    Attributes:
        audio: Stands for 80 ms of audio; its embedding is replaced by what the encoder heard.
        start, end: Around the audio of one recording.
        digits: Ids of "0" to "9", of which time markers are made.
        im_start, im_end: Around one turn of a conversation; ``im_end`` ends the answer.
        endoftext: Fills the shorter prompts of a batch; also ends an answer.
    """

    audio: int = 151654
    start: int = 151669
    end: int = 151670
    digits: tuple[int, ...] = (15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
    im_start: int = 151644
    im_end: int = 151645
    endoftext: int = 151643

    def __post_init__(self) -> None:
        if len(self.digits) != 10:
            raise ValueError(f"Ten digit ids are needed, got {len(self.digits)}.")


RELEASED = AudioTokens()
"""The ids of the released checkpoints."""


def audio_span(n_tokens: int, ids: AudioTokens = RELEASED, time_markers: bool = True) -> list[int]:
    """Ids of one recording, between its start and its end id.

    After every 25 audio tokens the second they end at (2, 4, …) is written, one id per decimal digit. So the
    layout depends on the number of audio tokens alone.

    Args:
        n_tokens: Audio tokens of the recording (12.5 a second).
        ids: Which ids to write.
        time_markers: Whether to write the seconds.

    Returns:
        ``n_tokens`` times the audio id, with the digits between them.
    """
    if n_tokens < 0:
        raise ValueError(f"A recording cannot have {n_tokens} audio tokens.")
    if not time_markers:
        return [ids.audio] * n_tokens
    span: list[int] = []
    for marker in range(1, n_tokens // TOKENS_PER_MARKER + 1):
        span += [ids.audio] * TOKENS_PER_MARKER
        span += [ids.digits[int(digit)] for digit in str(marker * SECONDS_PER_MARKER)]
    return span + [ids.audio] * (n_tokens % TOKENS_PER_MARKER)
