"""What is in a data file, before hours are spent on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from moss_audio.errors import DataError
from moss_audio.finetune.conversations import read_conversations
from moss_audio.finetune.dataset import Measure, Reading, measure, total_time
from moss_audio.finetune.sequences import too_long
from moss_audio.processor import MossAudioProcessor


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        measures: Sizes of the examples that can be learned.
        problems: Why others cannot, one for each line.
    """

    measures: list[Measure]
    problems: list[DataError]

    @property
    def text(self) -> str:
        """For a person to read."""
        lines = []
        if self.measures:
            lengths = [one.length for one in self.measures]
            longest = max(one.seconds for one in self.measures)
            lines += [
                f"{len(lengths)} examples, {total_time(self.measures)} of audio (longest: {longest:.1f} s)",
                f"{sum(lengths):,} tokens: {min(lengths)} to {max(lengths)}, half of the examples up to "
                f"{median(lengths):g}",
                f"{sum(one.learned for one in self.measures):,} of them are learned",
            ]
        lines += [str(one) for one in self.problems]
        count = len(self.problems)
        lines.append(f"{count} {'line' if count == 1 else 'lines'} cannot be used.")
        return "\n".join(lines)


def check(
    data: Path, model: str | Path, how: tuple[int, bool | None, str] = (8192, None, ""), decode: bool = False
) -> Report:
    """Read a data file as training would.

    Args:
        data: Conversations, JSONL.
        model: Checkpoint whose tokenizer counts.
        how: Longest sequence, whether seconds are written, prompt of conversations without one.
        decode: Decode every recording.

    Raises:
        DataError: The file cannot be read at all.
        CheckpointError: There is no such model.
    """
    max_length, time_markers, prompt_default = how
    reading = Reading(MossAudioProcessor.from_pretrained(model), time_markers, max_length)
    problems: list[DataError] = []
    measures: list[Measure] = []
    for one in read_conversations(data, prompt_default, problems.append):
        try:
            found = measure(one, reading, decode)
            if found.length > max_length:
                raise too_long(one.name, found.length, max_length)
            measures.append(found)
        except DataError as error:
            problems.append(error)
    return Report(measures, problems)
