"""`moss-agent doctor`: what is in place, which engines hear and think, and how to get more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.engines.model_pool import ModelPool
from agent.workspace import Workspace
from index.recording_errors import MossAgentError
from moss_audio.decoder_process import decoder_versions
from moss_audio.errors import MossAudioError
from moss_audio.served import ServedBackend

NO_EAR = "not available: they need MOSS-Audio; {more} (docs/engines.md)"

NOT_WITHOUT_MODEL = "not available until the model can be used (see “model” above)."


@dataclass(frozen=True)
class Check:
    """One check; ``detail`` says what was found and, where it is not ok, what to do."""

    name: str
    ok: bool
    detail: str
    required: bool = True
    """Whether the program needs it; optional parts are not required."""

    def to_json(self) -> dict[str, Any]:
        """The check as the command line's JSON."""
        return {"name": self.name, "ok": self.ok, "required": self.required, "detail": self.detail}


def examine(workspace: Workspace) -> list[Check]:
    """Run all checks; loads the models, since only that proves that they load."""
    model = _check("model", lambda: _model(workspace))
    return [
        _check("home", lambda: _home(workspace)),
        _check("library", lambda: _library(workspace)),
        _check("media decoding", _decoding),
        model,
        _check("hears", lambda: _recogniser(workspace, model.ok)),
        _check("speakers", _voices),
        _check("search", lambda: _search(workspace)),
        _check("thinks", lambda: _thinks(workspace, model.ok)),
        _sounds(workspace, model.ok),
        *([_webhook(workspace)] if workspace.settings.webhook_url else []),
    ]


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except (MossAgentError, MossAudioError) as error:
        return Check(name, False, str(error))
    except Exception as error:
        # A broken installation can raise anything from any library; the doctor reports and goes on.
        return Check(
            name,
            False,
            f"{type(error).__name__}: {error}; `make install`, or installing the wheel again, repairs it.",
        )


def _home(workspace: Workspace) -> str:
    if workspace.read_only is not None:
        raise workspace.read_only
    free = shutil.disk_usage(workspace.home).free / 1e9
    if free < 1:
        raise MossAgentError(f"{workspace.home} has only {free:.1f} GB left; free some space.")
    return f"{workspace.home}, {free:.0f} GB free"


def _library(workspace: Workspace) -> str:
    recordings = workspace.library.recordings()
    unfinished = [recording.title for recording in recordings if recording.status != "ready"]
    found = f"{len(recordings)} recordings"
    return (
        f"{found}; not finished: {', '.join(unfinished)} (add them again to resume)" if unfinished else found
    )


def _decoding() -> str:
    return f"{decoder_versions()}, in a process of its own"


def _model(workspace: Workspace) -> str:
    """Which engines were chosen and why; loads the model, or asks the server."""
    engines = workspace.engines
    if isinstance(engines.backend, ServedBackend | ModelPool):
        try:
            served = engines.backend.check()
        except MossAudioError as error:
            raise MossAgentError(str(error)) from error
        context = f", {served.context:,} tokens of context" if served.context else ""
        sent = "questions and recordings are" if engines.listener else "questions, with what was said, are"
        found = f"{served.model} at {engines.elsewhere}{context}; {sent} sent there"
    else:
        loaded = engines.loaded()
        found = f"{loaded.name} is loaded" if loaded else "none"
    return ". ".join(part.rstrip(".") for part in (found, engines.why, engines.more) if part)


def _recogniser(workspace: Workspace, model_works: bool) -> str:
    from index.transcription.whisper import WhisperTranscriber
    from index.weights import PACKAGED_WHISPER

    transcriber = workspace.transcriber
    if not isinstance(transcriber, WhisperTranscriber):
        if not model_works:
            raise MossAgentError(NOT_WITHOUT_MODEL)
        return f"{workspace.engines.hears}: speech, with times"
    try:
        model = transcriber.load().model
    except OSError as error:
        # The recogniser's weights are put together in the home folder.
        if workspace.read_only is not None:
            raise workspace.read_only from error
        raise
    languages = "many languages" if model.is_multilingual else "English only"
    packaged = transcriber.model in PACKAGED_WHISPER
    origin = "published hashes checked" if packaged else "a model you chose"
    return f"{transcriber.name} on {model.device} ({model.compute_type}), {languages}, {origin}"


def _voices() -> str:
    from index.diarization.voice_embeddings import VoiceEncoder

    VoiceEncoder().load()
    return "Resemblyzer's voice encoder, hash checked; labels are estimates"


def _search(workspace: Workspace) -> str:
    workspace.embedder.load()
    if workspace.search.vectors is None:
        return f"keywords (SQLite FTS5) and meaning ({workspace.embedder.name}, without Chroma)"
    workspace.vectors.check(workspace.library)
    return f"keywords (SQLite FTS5) and meaning ({workspace.embedder.name} in Chroma)"


def _thinks(workspace: Workspace, model_works: bool) -> str:
    from agent.extractive.extractive_chat import ExtractiveChatModel

    if isinstance(workspace.chat_model, ExtractiveChatModel):
        return "extractive: answers are quotes chosen by rule; no language model is used"
    if not model_works:
        return "quotes chosen by rule, until the model can be used (see “model” above)"
    return f"{workspace.engines.thinks_with}; if it fails, quotes chosen by rule are shown instead"


def _webhook(workspace: Workspace) -> Check:
    """Where messages go, and whether the last ones arrived."""
    try:
        waiting, problem = workspace.webhooks.waiting()
    except MossAgentError as error:
        return Check("webhook", False, str(error), required=False)
    detail = f"{workspace.webhooks.address}, {waiting} messages wait. {problem}".strip()
    return Check("webhook", not problem, detail, required=False)


def _sounds(workspace: Workspace, model_works: bool) -> Check:
    name = "sounds, music, tone of voice"
    try:
        engines = workspace.engines
    except MossAgentError as error:
        return Check(name, False, str(error), required=False)
    if engines.listener is None:
        return Check(name, False, NO_EAR.format(more=engines.more.rstrip(".")), required=False)
    if not model_works:
        return Check(name, False, NOT_WITHOUT_MODEL, required=False)
    listed = (
        " and lists them for each recording" if engines.sounds else "; MOSS_AGENT_SOUNDS=on also lists them"
    )
    return Check(name, True, f"{engines.thinks_with} can listen again when asked{listed}", required=False)
