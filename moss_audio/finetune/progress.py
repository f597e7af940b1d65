"""What a person sees of a run on stderr, and what happens when they stop it."""

from __future__ import annotations

import math
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from moss_audio.errors import MossAudioError


class Reporter(TrainerCallback):
    """A bar with the loss where stderr is a terminal, else a line for every step."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the bar."""
        if not self.console.is_terminal:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, loss {task.fields[loss]}"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=self.console)
        self.bar.add_task("Training", total=state.max_steps, completed=state.global_step, loss="…")
        self.bar.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show a step's loss, or the evaluation's."""
        logs = logs or {}
        if "loss" in logs:
            if self.bar is not None:
                self.bar.update(self.bar.task_ids[0], loss=f"{logs['loss']:.4f}")
            else:
                self.say(
                    f"step {state.global_step} of {state.max_steps}: loss {logs['loss']:.4f}, gradient norm "
                    f"{logs.get('grad_norm', float('nan')):.3g}, learning rate {logs['learning_rate']:.2e}"
                )
        if "eval_loss" in logs:
            self.say(f"step {state.global_step}: loss on the evaluation data {logs['eval_loss']:.4f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away, however the run ended."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def say(self, text: str) -> None:
        """One line on stderr."""
        self.console.print(text, markup=False)


class Finite(TrainerCallback):
    """Ends a run whose loss is no number any more; nothing after it could be used."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Look at a step's loss and gradient.

        Raises:
            MossAudioError: One of them is not finite.
        """
        for name in ("loss", "grad_norm"):
            if not math.isfinite((logs or {}).get(name, 0.0)):
                raise MossAudioError(
                    f"At step {state.global_step} the {'loss' if name == 'loss' else 'gradient'} is no "
                    "number any more; begin again with a smaller --lr or some --warmup."
                )


class Stop(TrainerCallback):
    """Ctrl-C, or a scheduler's SIGTERM, ends the run after the step at hand, with a checkpoint.

    A second one ends it at once. Use as a context manager around training.
    """

    def __init__(self) -> None:
        self.asked = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._on_signal)
            except ValueError:  # not the main thread: whoever owns it decides
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a process that decodes audio; it ends with this one
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Writing through rich could wait for a lock that the interrupted code holds.
        sys.stderr.write("\nStopping after this step, with a checkpoint; once more to stop at once.\n")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask the trainer to save and stop."""
        if self.asked and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
        return control
