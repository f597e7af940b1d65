"""MOSS-Audio as the reasoning core: a LangChain chat model over any backend that writes Qwen3's chat form.

Thoughts come apart from words, calls of tools are read in whatever form they were written, and where the
model fails the extractive model takes over for the rest of the question, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from agent.moss_turn import Asked, Asking
from agent.taking_over import extractive, taken_over
from index.errors import Cancelled, MossAgentError
from moss_audio.errors import MossAudioError
from tools.cancelling import cancel_of


class ChatMossAudio(BaseChatModel):
    """A chat model over a ``moss_audio.backend.Backend``.

    ``with_structured_output`` tells the model to call the schema as a function, and takes bare JSON as well.

    Attributes:
        backend: What writes.
        context: Tokens that it holds; by default as it says, else ``CONTEXT_TOKENS``.
        answer_tokens: Tokens an answer may have, its thought included; at most a third of ``context``.
        takes_over: Whether the extractive model answers where this one fails; else that is an error.
    """

    backend: Any
    context: int | None = None
    answer_tokens: int | None = None
    takes_over: bool = True

    @property
    def model_name(self) -> str:
        """What people are shown."""
        return str(self.backend.name)

    @property
    def _llm_type(self) -> str:
        return "moss-audio"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools.

        Args:
            tools: What may be called.
            tool_choice: A tool's name, or ``any``: then the answer is a call and nothing else.
        """
        known = ("ls_structured_output_format", "strict", "parallel_tool_calls")
        rest = {key: value for key, value in kwargs.items() if key not in known}
        formatted = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=formatted, tool_choice=_choice(tool_choice, formatted), **rest)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        cancel = cancel_of(ensure_config())
        forced: list[str] = kwargs.get("tool_choice") or []
        ask = Asking(
            Asked(
                self.backend,
                messages,
                kwargs.get("tools") or [],
                forced,
                stop or [],
                self.context,
                self.answer_tokens,
                cancel,
            )
        )
        if note := taken_over(messages):
            yield from extractive(messages, ask.schemas, note)
            return
        try:
            for message in ask.run():
                yield ChatGenerationChunk(message=message)
        except MossAudioError as error:
            if cancel is not None and cancel.is_set():
                raise Cancelled("The answer was stopped.") from error
            if forced or not self.takes_over:
                raise MossAgentError(f"{self.model_name} could not answer: {self._reason(error)}.") from error
            note = f"{_plain(self.model_name)} could not answer this ({self._reason(error)})"
            yield from extractive(messages, ask.schemas, note, ask.shown)

    def _reason(self, error: MossAudioError) -> str:
        """Why, as a part of a sentence: no text of others in it can quote, cite or end the line."""
        text = _plain(str(error)).removeprefix(f"{_plain(self.model_name)} ")
        # “MOSS-Audio could not answer this (it is still being loaded)”
        subject = "" if text == _plain(str(error)) else "it "
        return (subject + text)[:240].rstrip(" .!") or "it failed"


def _choice(choice: Any, tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tools of which one must be called; none where that is left to the model."""
    names = [str(one["function"]["name"]) for one in tools]
    if isinstance(choice, Mapping):
        choice = (choice.get("function") or {}).get("name")
    if choice in (None, False, "auto", "none"):
        return []
    return [choice] if choice in names else names


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[“”„\"«»「」\[\]#()]", " ", text).split())
