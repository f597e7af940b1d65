"""What the workers of a cluster run: made there, from what is installed there, and reached from here."""

from __future__ import annotations

import fcntl
from functools import partial
from pathlib import Path
from typing import Any

from agent.settings import Settings
from index.cluster.cluster_engines import (
    ClusterBackend,
    ClusterDecoder,
    ClusterEmbedder,
    ClusterTranscriber,
    ClusterVoices,
)
from index.cluster.desk import Pool
from index.cluster.ray_session import ClusterLink
from index.cluster.worker import BackendHost, TranscriberHost, vector_host
from index.transcription.transcriber import Transcriber


def cluster_transcriber(settings: Settings, cluster: ClusterLink, like: Transcriber) -> ClusterTranscriber:
    """The recogniser of the settings on the workers.

    Args:
        settings: What was wished for.
        cluster: Where it runs.
        like: The same here; it is never loaded.
    """
    make = partial(whisper_host, settings.transcriber)
    return ClusterTranscriber(cluster, Pool(like.name, make, gpu="if there"), like)


def cluster_backend(settings: Settings, cluster: ClusterLink) -> ClusterBackend:
    """The MOSS-Audio of the settings on the workers."""
    from moss_audio.generation.thinking import name_says_thinking

    name = Path(settings.model).name
    pool = Pool(name, partial(moss_host, settings.model), gpu="only")
    return ClusterBackend(cluster, pool, name, name_says_thinking(settings.model))


def cluster_embedder(settings: Settings, cluster: ClusterLink) -> ClusterEmbedder:
    """The embedder of the settings on the workers, but for questions."""
    return ClusterEmbedder(settings.embedder, cluster, _vectors(settings))


def cluster_work(settings: Settings, cluster: ClusterLink) -> dict[str, Any]:
    """What else of the pipeline works there, as ``Ingest`` takes it."""
    return {"encoder": ClusterVoices(cluster, _vectors(settings)), "decode": ClusterDecoder(cluster)}


def _vectors(settings: Settings) -> Pool:
    make = partial(vector_host, settings.embedder)
    return Pool(f"voices and {settings.embedder} embeddings", make, hears=False)


# --- on a worker --------------------------------------------------------------------------------------------


def whisper_host(model: str, threads: int) -> TranscriberHost:
    """A Whisper of this machine; its home folder and weights are those of this machine's settings."""
    from index.transcription.whisper import WhisperTranscriber

    settings = Settings()
    models = settings.home.expanduser() / "models"
    transcriber = WhisperTranscriber(model, models, threads, (), settings.weights)
    models.mkdir(parents=True, exist_ok=True)
    # Several workers of one machine would put the same weights together at a time.
    with (models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        transcriber.load()
    return TranscriberHost(transcriber)


def moss_host(source: str, threads: int) -> BackendHost:
    """A MOSS-Audio of this machine, on the GPU that Ray gave this process, or on its processors."""
    import torch

    from moss_audio.engine import LocalBackend

    if not torch.cuda.is_available():
        torch.set_num_threads(threads)
    return BackendHost(LocalBackend.load(source, "cuda" if torch.cuda.is_available() else "cpu"))
