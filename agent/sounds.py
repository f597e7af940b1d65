"""Whether recordings are listened to for sounds and music as well, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from index.moss_sounds import MossSounds
    from moss_audio.backend import Backend


def ear_for_sounds(wanted: Literal["auto", "on", "off"], backend: Backend | None) -> MossSounds | None:
    """What lists sounds, by the setting ``sounds``; None where that is off or no MOSS-Audio is there.

    Args:
        wanted: ``auto`` is on unless the model runs on this machine's processor, where it would take longer
            than the recording.
        backend: What runs MOSS-Audio, if anything does.
    """
    if backend is None or wanted == "off" or (wanted == "auto" and _runs_on_processor(backend)):
        return None
    from index.moss_sounds import MossSounds

    return MossSounds(backend)


def _runs_on_processor(backend: Backend) -> bool:
    """Whether it is an engine of this process without a GPU; servers are taken to have one."""
    device = getattr(getattr(backend, "engine", None), "device", None)
    return getattr(device, "type", None) == "cpu"
