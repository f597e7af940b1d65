"""`moss-agent doctor`: whether each part of the settings works, which engines hear and think, what to do."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.engines.engine_choice import addresses, connected
from agent.engines.model_pool import ModelPool
from agent.settings import Settings
from agent.webhooks import NotDelivered, Webhooks, is_public
from agent.workspace import Workspace
from index.recording_errors import MossAgentError
from index.search.vectors import location_of, look_at_server
from index.store.audio_files import audio_files
from index.store.database import Database
from moss_audio.backend import Backend
from moss_audio.decoder_process import decoder_versions
from moss_audio.errors import MossAudioError
from moss_audio.served import ServedBackend

LEAST_FREE_BYTES = 1_000_000_000
"""Below so much room recordings may not fit; an hour takes about 100 MB with everything made of it."""

PATIENCE = 5.0
"""Seconds that an address may take to accept a connection."""

CHROMA_FLAWS = "CVE-2026-45829 and CVE-2026-45833"
"""Ways to run code on Chroma's server in Python, up to 1.5.9, without or before authentication; the server in
Rust, which ``chroma run`` starts, has neither."""

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
    settings = workspace.settings
    model = _check("model", lambda: _model(workspace))
    return [
        _check("home", lambda: _home(workspace)),
        _check("library", lambda: _library(workspace)),
        _check("database", lambda: _database(workspace.library.database)),
        _check("vectors", lambda: _vectors(settings, workspace.home)),
        _check("audio", workspace.library.audio.check),
        _check("media decoding", _decoding),
        model,
        *_each_model(workspace),
        *_cluster(settings),
        _check("hears", lambda: _recogniser(workspace, model.ok)),
        _check("speakers", _voices),
        _check("search", lambda: _search(workspace)),
        _check("thinks", lambda: _thinks(workspace, model.ok)),
        _sounds(workspace, model.ok),
        *([_check("webhook", lambda: _webhook(workspace))] if settings.webhook_url else []),
    ]


def examine_parts(settings: Settings, problem: MossAgentError) -> list[Check]:
    """The checks of what the settings name, where the library cannot be opened.

    Args:
        settings: What is wished for.
        problem: Why it cannot be opened.
    """
    home = settings.home.expanduser().absolute()
    return [
        _check("home", lambda: _folder(home)),
        Check("library", False, str(problem)),
        _check("vectors", lambda: _vectors(settings, home)),
        _check("audio", lambda: audio_files(home, settings.audio, settings.audio_cache_mb, _none).check()),
        _check("media decoding", _decoding),
        *_addresses(settings),
        *_cluster(settings),
        _check("speakers", _voices),
    ]


def _none(_recordings: object) -> dict[str, bool]:
    return {}


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
    return _folder(workspace.home)


def _folder(home: Path) -> str:
    free = shutil.disk_usage(home if home.exists() else home.parent).free
    if free < LEAST_FREE_BYTES:
        raise MossAgentError(f"{home} has only {free / 1e9:.1f} GB left; free some space.")
    return f"{home}, {free / 1e9:.0f} GB free"


def _database(database: Database) -> str:
    """What the database is, and how long it takes to answer."""
    began = time.perf_counter()
    with database.transaction() as session:
        session.connection().exec_driver_sql("SELECT 1")
    took = f"answers in {(time.perf_counter() - began) * 1000:.0f} ms"
    dialect, url = database.engine.dialect, database.engine.url
    version = ".".join(str(part) for part in getattr(dialect, "server_version_info", None) or ())
    if dialect.name == "sqlite":
        return f"SQLite, {took}"
    if url.host and _is_public(url.host) and "sslmode" not in url.query:
        raise MossAgentError(
            f"The database at {url.host} has a public address, and what is sent there may not be encrypted; "
            "give it a private address, or add ?sslmode=verify-full to MOSS_AGENT_DATABASE."
        )
    return f"{dialect.name} {version} at {url.host or 'this machine'}, {took}"


def _vectors(settings: Settings, home: Path) -> str:
    """Where vectors are; of a server which one it is and whether it is safe to use."""
    url = location_of(settings.vectors) if settings.vectors else home / "vectors"
    if isinstance(url, Path):
        return f"embedded, in {url}"
    token = settings.vectors_token.get_secret_value() if settings.vectors_token else None
    facts = look_at_server(url, token, ask_kind=True)
    parts = urlsplit(url)
    if facts.kind == "python":
        raise MossAgentError(
            f"The server at {url} is Chroma's server in Python, on which whoever reaches it may run code "
            f"({CHROMA_FLAWS}, not mended up to 1.5.9); replace it with the one that `chroma run` starts."
        )
    if _is_public(str(parts.hostname)) and not (token and parts.scheme == "https"):
        raise MossAgentError(
            f"The Chroma server at {url} has a public address, and Chroma asks nobody for a password; give "
            "it a private one, or put a proxy before it that asks for MOSS_AGENT_VECTORS_TOKEN over https."
        )
    kind = "in Rust" if facts.kind else "of which it is not known whether it is the one in Rust"
    return f"Chroma's server at {url}, {kind}, version {facts.version}"


def _is_public(host: str) -> bool:
    """Whether a name leads to the internet at large; one that cannot be found does not."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(is_public(ipaddress.ip_address(str(each[4][0]).partition("%")[0])) for each in found)


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


def _each_model(workspace: Workspace) -> list[Check]:
    """Each of the servers of one model, where there are several; and addresses that are not safe."""
    try:
        return _servers(workspace.engines.backend)
    except MossAgentError:
        return []


def _addresses(settings: Settings) -> list[Check]:
    """The servers of the settings, where nothing was chosen."""
    try:
        backend = connected(settings) if addresses(settings.model) else None
    except (MossAgentError, MossAudioError) as error:
        return [Check("model", False, f"MOSS_AGENT_MODEL: {error}")]
    if isinstance(backend, ServedBackend):
        return [_check(f"model {backend.host}", partial(_one_model, backend))]
    return _servers(backend)


def _servers(backend: Backend | None) -> list[Check]:
    if isinstance(backend, ModelPool):
        members = [(member.backend, f"model {member.host}") for member in backend.members]
        return [_check(name, partial(_one_model, member)) for member, name in members]
    if isinstance(backend, ServedBackend) and not _is_encrypted(backend):
        return [_check(f"model {backend.host}", partial(_one_model, backend))]
    return []


def _one_model(backend: ServedBackend) -> str:
    served = backend.check()
    if not _is_encrypted(backend):
        raise MossAgentError(
            f"The server at {backend.host} has a public address, and what is said in recordings is sent "
            "there without encryption; use https://, or a private network."
        )
    return f"{served.model}{f', {served.context:,} tokens of context' if served.context else ''}"


def _is_encrypted(backend: ServedBackend) -> bool:
    """Whether what is sent to a server cannot be read on the way, or stays in a private network."""
    parts = urlsplit(backend.address.base)
    return parts.scheme == "https" or not _is_public(str(parts.hostname))


def _cluster(settings: Settings) -> list[Check]:
    """Whether the head of a Ray cluster can be reached, where the settings name one."""
    address = settings.ray
    return [_check("ray", lambda: _ray(address))] if address else []


def _ray(address: str) -> str:
    if address in ("local", "auto"):
        return f"{address}: started, or looked for, when there is work"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise MossAgentError(
            f"MOSS_AGENT_RAY is no address: “{address[:100]}”; use local, auto, host:6379 or ray://host:10001."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise MossAgentError(
            f"Nothing answers at {address} ({error.strerror or type(error).__name__}); start one with "
            "`moss-agent cluster start`, or correct MOSS_AGENT_RAY."
        ) from error
    if _is_public(host.strip("[]")):
        raise MossAgentError(
            f"{address} is a public address, and whoever reaches a Ray cluster may run code on it; give it a "
            "private one."
        )
    return f"{address} answers"


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


def _webhook(workspace: Workspace) -> str:
    """Where messages go, whether that can be reached, and whether the last ones arrived."""
    webhooks: Webhooks = workspace.webhooks
    waiting, problem = webhooks.waiting()
    try:
        webhooks.reach()
    except NotDelivered as error:
        raise MossAgentError(
            f"{error} {waiting} messages wait; correct MOSS_AGENT_WEBHOOK_URL, or start what listens there."
        ) from error
    if problem:
        raise MossAgentError(f"{webhooks.address}, {waiting} messages wait. {problem}")
    return f"{webhooks.address}, {waiting} messages wait"


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
