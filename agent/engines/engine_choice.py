"""Which engine transcribes and which answers: what the settings name, else the best on this machine.

With MOSS_AGENT_RAY, what would run in this process runs on the workers of a Ray cluster.

MOSS_AGENT_MODEL is a URL      a server transcribes and answers; one without audio input only answers
                 several URLs  servers of one model share the work (``agent.engines.model_pool``)
                 a name/folder a MOSS-Audio in this process, loaded when it is needed
                 auto          the largest checkpoint on this machine that fits its GPU, one in the home
                               folder before one of the hub, Thinking before Instruct; else the packaged
                               recogniser and quotes chosen by rule
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.engines.loading import LoadingBackend, Progress
from agent.engines.released_models import (
    GB,
    NAMES,
    Machine,
    cache_folder,
    memory_needed,
    own_checkpoints,
    released,
    this_machine,
)
from agent.extractive.extractive_chat import ExtractiveChatModel
from agent.settings import Settings
from index.recording_errors import MossAgentError
from moss_audio.errors import MossAudioError, ServerError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from agent.engines.model_pool import ModelPool
    from index.cluster.ray_session import ClusterLink
    from index.diarization.moss_speakers import MossSpeakers
    from index.sounds import MossSounds
    from index.transcription.transcriber import Transcriber
    from moss_audio.backend import Backend, Listener
    from moss_audio.served import Served, ServedBackend

CONTACT_SECONDS = 20.0
"""How long a server may take to say what it is; it may still answer questions later."""

SERVING = "docs/serving.md says how to serve one"
GET = (
    "`moss-agent models` says which MOSS-Audio fits this machine; set MOSS_AGENT_MODEL to one, or to a server"
)


@dataclass(frozen=True)
class Engines:
    """The engines that transcribe recordings and answer questions.

    Attributes:
        backend: A MOSS-Audio, or another model behind a server; None in the embedded default.
        transcriber: What writes recordings down.
        listener: What listens again; None where nothing can.
        chat_model: What answers.
        hears: What writes down, in a few words.
        thinks_with: What answers, in a few words.
        why: Why these, as one sentence.
        more: How to get more, as one sentence; empty where there is no more.
        sounds: What lists sounds and music; None leaves that out.
        speakers: What is asked who speaks, beside the voices; None leaves it to them.
        elsewhere: Host that recordings or questions are sent to; None where they stay on this machine.
    """

    backend: Backend | None
    transcriber: Transcriber
    listener: Listener | None
    chat_model: BaseChatModel
    hears: str
    thinks_with: str
    why: str
    more: str
    sounds: MossSounds | None = None
    speakers: MossSpeakers | None = None
    elsewhere: str | None = None

    @property
    def progress(self) -> str:
        """How far the loading of a model is; empty where there is nothing to wait for."""
        return self.backend.progress if isinstance(self.backend, LoadingBackend) else ""

    @property
    def failed(self) -> bool:
        """Whether the model could not be loaded; ``progress`` says why."""
        return isinstance(self.backend, LoadingBackend) and self.backend.state == "failed"

    def start(self) -> None:
        """Begin to load in the background, where there is something to load."""
        if isinstance(self.backend, LoadingBackend):
            self.backend.start()

    def loaded(self) -> Backend | None:
        """The model itself, once it is there; None in the embedded default.

        Raises:
            MossAgentError: It cannot be loaded.
        """
        if not isinstance(self.backend, LoadingBackend):
            return self.backend
        try:
            return self.backend.loaded()
        except MossAudioError as error:
            raise MossAgentError(str(error)) from error

    def close(self) -> None:
        """Give memory and connections back."""
        if self.backend is not None:
            self.backend.close()


def choose(settings: Settings, machine: Machine | None = None, cluster: ClusterLink | None = None) -> Engines:
    """The engines of the settings; nothing is loaded yet, but a server is asked what it is.

    Args:
        settings: What was wished for.
        machine: What is here; by default it is measured, where that matters.
        cluster: Whose machines hear; None: this one.

    Raises:
        MossAgentError: The address of the server is none, or the glossary cannot be read.
    """
    try:
        if cluster is not None:
            return _on_cluster(settings, cluster)
        if addresses(settings.model):
            return _served(settings)
        if settings.model != "auto":
            return _named(settings, machine or this_machine())
        return _automatic(settings, machine)
    except MossAudioError as error:
        raise MossAgentError(f"MOSS_AGENT_MODEL: {error}") from error


def _on_cluster(settings: Settings, cluster: ClusterLink) -> Engines:
    """The workers of a cluster hear; what answers is a server, a MOSS-Audio of theirs, or quotes."""
    from agent.engines.worker_engines import cluster_backend, cluster_transcriber

    where = f"the Ray cluster {cluster.address}"
    if addresses(settings.model):
        engines = _served(settings)
        if engines.listener is None or "transcriber" in settings.model_fields_set:
            engines = replace(engines, transcriber=cluster_transcriber(settings, cluster, _whisper(settings)))
        return engines
    if settings.model != "auto":
        backend = cluster_backend(settings, cluster)
        why = f"MOSS_AGENT_MODEL selects it; it runs on {where}."
        engines = _with_moss(settings, backend, f"{backend.name} on {where}", why, "", fast=True)
    else:
        engines = _embedded(settings, f"MOSS_AGENT_RAY selects {where}.", GET)
    if engines.backend is None or "transcriber" in settings.model_fields_set:
        transcriber = cluster_transcriber(settings, cluster, _whisper(settings))
        engines = replace(engines, transcriber=transcriber, hears=f"{transcriber.name} on {where}")
    return engines


def _automatic(settings: Settings, machine: Machine | None) -> Engines:
    """The best of what is here, without a download."""
    owned = own_checkpoints(settings.home.expanduser() / "models")
    if not owned and not _any_released(machine.cache if machine else cache_folder()):
        return _embedded(settings, "No MOSS-Audio is on this machine, and no server is set.", GET)
    machine = machine or this_machine()
    if machine.gpu is None:
        why = (
            "A MOSS-Audio is on this machine, but it is not used by default without a GPU, where it is slow."
        )
        return _embedded(settings, why, "Set MOSS_AGENT_MODEL to use it anyway")
    for checkpoint in owned:
        if memory_needed(checkpoint.weight_bytes, 2) <= machine.gpu_bytes:
            why = f"It is the largest checkpoint in {checkpoint.folder.parent} that fits the {machine.gpu}."
            return _local(settings, str(checkpoint.folder), machine, why, "")
    for model in released(machine):
        if model.folder is not None and model.fits_gpu:
            why = f"It is the best checkpoint on this machine that fits the {machine.gpu}."
            return _local(settings, model.name, machine, why, _better(model.name))
    free = f"{machine.gpu_bytes / GB:.1f} GB"
    why = f"No complete MOSS-Audio on this machine fits into the {free} free on the {machine.gpu}."
    return _embedded(settings, why, GET)


def _named(settings: Settings, machine: Machine) -> Engines:
    """The checkpoint of the settings, on whatever there is."""
    where = f"the {machine.gpu}" if machine.gpu else "the CPU, which is slow"
    why = f"MOSS_AGENT_MODEL selects it; it runs on {where}."
    more = "" if machine.gpu else f"A GPU or a server would make it fast; {SERVING}"
    return _local(settings, settings.model, machine, why, more)


def _local(settings: Settings, source: str, machine: Machine, why: str, more: str) -> Engines:
    """A MOSS-Audio in this program."""

    def load(progress: Progress | None) -> Backend:
        from moss_audio.engine import LocalBackend

        return LocalBackend.load(source, "cuda" if machine.gpu else "cpu", progress=progress)

    backend = LoadingBackend(source, load)
    return _with_moss(settings, backend, backend.name, why, more, fast=machine.gpu is not None)


def _served(settings: Settings) -> Engines:
    """A model behind a server, or behind several."""
    from agent.engines.model_pool import ModelPool

    backend = connected(settings)
    host = backend.host
    found, problem = _asked(lambda: backend.check(listen=True))
    several = isinstance(backend, ModelPool)
    these = "these servers" if several else "this server"
    named = f"{backend.name} at {host}" if found else f"the server{'s' if several else ''} at {host}"
    why = f"MOSS_AGENT_MODEL selects {these}{_software(found)}."
    if problem:
        did = "none said" if several else "it did not say"
        why = f"MOSS_AGENT_MODEL selects {these}, but {did} which model it serves: {problem}"
    elif isinstance(backend, ModelPool) and (left_out := backend.problems()):
        why = f"{why} Left out for now: {' '.join(left_out)}"
    if backend.hears:
        engines = _with_moss(settings, backend, named, why, "", fast=True, context=_context(found))
    else:
        engines = _thinking_only(settings, backend, named, why, _context(found))
    return replace(engines, elsewhere=host)


def addresses(model: str) -> list[str]:
    """The addresses of servers in a ``MOSS_AGENT_MODEL``, each once; none where it is a name or a folder.

    Raises:
        MossAudioError: Addresses are mixed with something else.
    """
    parts = list(dict.fromkeys(re.split(r"[,\s]+", model.strip(", \t\n"))))
    are_urls = [part.casefold().startswith(("http://", "https://")) for part in parts]
    if not are_urls[0]:
        return []
    if not all(are_urls):
        other = parts[are_urls.index(False)]
        raise ServerError(f"“{other[:100]}” is not the address of a server; give addresses only.", "address")
    return parts


def connected(settings: Settings) -> ServedBackend | ModelPool:
    """The server of the settings, or the servers; nothing is sent yet.

    Raises:
        MossAudioError: An address is none.
        MossAgentError: What the settings say of it cannot be read.
    """
    from agent.engines.model_pool import ModelPool
    from moss_audio.served import ServedBackend

    key = settings.api_key.get_secret_value() if settings.api_key else None
    processor = _processor(settings.thinking_processor)
    urls = addresses(settings.model)
    if len(urls) == 1:
        return ServedBackend(urls[0], settings.served_model, key, thinking_processor=processor)

    def make(url: str, model: str | None) -> ServedBackend:
        wanted = model or settings.served_model
        return ServedBackend(url, wanted, key, retries=0, thinking_processor=processor)

    return ModelPool(urls, make)


def _processor(given: str | None) -> str | None:
    """A logit processor as it is sent: a JSON document, from a file where one is named.

    Raises:
        MossAgentError: The file cannot be read.
    """
    if not given or given.lstrip().startswith("{"):
        return given or None
    try:
        return Path(given).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MossAgentError(
            f"MOSS_AGENT_THINKING_PROCESSOR: the file {given[:200]} cannot be read "
            f"({getattr(error, 'strerror', None) or 'it is not a text file'}); docs/serving.md says how to "
            "write it."
        ) from error


def _with_moss(
    settings: Settings,
    backend: Backend,
    named: str,
    why: str,
    more: str,
    fast: bool,
    context: int | None = None,
) -> Engines:
    """All of it with one model; the recogniser only where it was asked for by name."""
    from agent.models.moss_chat import ChatMossAudio
    from index.diarization.moss_speakers import MossSpeakers
    from index.sounds import MossSounds
    from index.transcription.moss_transcriber import MossTranscriber
    from moss_audio.backend import BackendListener

    whisper = "transcriber" in settings.model_fields_set
    transcriber = _whisper(settings) if whisper else MossTranscriber(backend)
    return Engines(
        backend=backend,
        transcriber=transcriber,
        listener=BackendListener(backend),
        chat_model=ChatMossAudio(backend=backend, context=context, answer_tokens=settings.answer_tokens),
        hears=f"{transcriber.name} (MOSS_AGENT_TRANSCRIBER)" if whisper else named,
        thinks_with=named,
        why=why,
        more=more,
        sounds=MossSounds(backend) if _is_wanted(settings.sounds, fast) else None,
        speakers=MossSpeakers(backend) if _is_wanted(settings.speaker_labels, fast) else None,
    )


def _is_wanted(choice: str, fast: bool) -> bool:
    """Whether a pass over the recording that takes a model's time is made; unasked only where it is fast."""
    return choice == "on" or (choice == "auto" and fast)


def _thinking_only(
    settings: Settings, backend: Backend, named: str, why: str, context: int | None
) -> Engines:
    """A model that reads and writes, and Whisper to hear."""
    from agent.models.moss_chat import ChatMossAudio

    transcriber = _whisper(settings)
    return Engines(
        backend=backend,
        transcriber=transcriber,
        listener=None,
        chat_model=ChatMossAudio(backend=backend, context=context, answer_tokens=settings.answer_tokens),
        hears=f"{transcriber.name} on this machine",
        thinks_with=named,
        why=f"{why} It takes no audio, so recordings are transcribed on this machine.",
        more=f"Sounds, music and tone of voice need a server with MOSS-Audio; {SERVING}",
    )


def _embedded(settings: Settings, why: str, more: str) -> Engines:
    """What works everywhere."""
    transcriber = _whisper(settings)
    return Engines(
        backend=None,
        transcriber=transcriber,
        listener=None,
        chat_model=ExtractiveChatModel(),
        hears=transcriber.name,
        thinks_with="quotes chosen by rule",
        why=why,
        more=more,
    )


def _whisper(settings: Settings) -> Transcriber:
    from index.transcription.whisper import WhisperTranscriber

    models = settings.home.expanduser() / "models"
    return WhisperTranscriber(
        settings.transcriber, models, settings.threads, glossary_of(settings), settings.weights
    )


def glossary_of(settings: Settings) -> tuple[str, ...]:
    """Words that must be spelled right: those of the setting first, then those kept in the home folder.

    Raises:
        MossAgentError: A file cannot be read.
    """
    from index.transcription.glossary import HOME_FILE, read_glossary

    given = read_glossary(settings.glossary, "MOSS_AGENT_GLOSSARY") if settings.glossary else ()
    kept = settings.home.expanduser() / HOME_FILE
    return tuple(dict.fromkeys((*given, *(read_glossary(kept) if kept.exists() else ()))))


def _any_released(cache: Path) -> bool:
    """Whether anything of a released checkpoint is here; quick, so that most starts do no more."""
    # ``Path.is_dir`` raises where the cache is another user's.
    return any(os.path.isdir(cache / f"models--{name.replace('/', '--')}") for name in NAMES)


def _better(name: str) -> str:
    best = NAMES[0]
    if name == best:
        return ""
    return f"`moss-agent models` says whether {best.rpartition('/')[2]} fits here"


def _asked(check: Callable[[], Served]) -> tuple[Served | None, str]:
    """What a server is, and what went wrong with asking; it may not hold up a start for long."""
    outcome: list[tuple[Served | None, str]] = []

    def ask() -> None:
        try:
            outcome.append((check(), ""))
        except MossAudioError as error:
            outcome.append((None, str(error)))

    thread = threading.Thread(target=ask, name="asking-server", daemon=True)
    thread.start()
    thread.join(CONTACT_SECONDS)
    return outcome[0] if outcome else (None, f"it did not answer within {CONTACT_SECONDS:.0f} s.")


def _context(served: Served | None) -> int | None:
    return served.context if served else None


def _software(served: Served | None) -> str:
    return f" ({served.software})" if served and served.software else ""
