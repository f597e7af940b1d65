"""LangChain's standard tests of chat models, on ours over a real server.

What is switched off, and why:

* model override, model name, init from the environment: the model is what the server serves, and the backend
  is made by ``agent.engines``; the chat model has no settings of its own.
* images, audio, video, PDF: audio reaches the model through the ``listen`` tool alone, the rest never.
* JSON mode: OpenAI's ``response_format`` is not every server's; a schema is asked for as a tool instead.
* serialisation: it holds a connection.
* the time of a stream: it is compared with recorded HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from agent.models.moss_chat import ChatMossAudio
from moss_audio.served import ServedBackend
from tests.support.moss_backend import RuleBackend

ANSWER_TOKENS = 64
"""Enough for a call of a tool; more only takes longer."""


class TestUnits(ChatModelUnitTests):
    """Without a server."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMossAudio

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"backend": RuleBackend(), "takes_over": False}

    @property
    def has_tool_choice(self) -> bool:
        return True


@pytest.mark.timeout(1800)
class TestOverServer(ChatModelIntegrationTests):
    """Over llama.cpp's server."""

    _address = ""

    @pytest.fixture(autouse=True, scope="class")
    def served(self, address: str) -> Iterator[None]:
        type(self)._address = address
        yield

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMossAudio

    @property
    def chat_model_params(self) -> dict[str, Any]:
        backend = ServedBackend(type(self)._address)
        return {"backend": backend, "takes_over": False, "answer_tokens": ANSWER_TOKENS, "context": 4096}

    @property
    def has_tool_choice(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return False

    @property
    def supports_json_mode(self) -> bool:
        return False
