"""Below the speakers of a recording: where to hear who is not named yet, and who each may be."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from index.records import Recording
from index.speaker_names import is_label
from moss_audio.timestamps import clock

if TYPE_CHECKING:
    from agent.workspace import SpeakerFacts


def render_voices(
    recording: Recording, speakers: Sequence[SpeakerFacts], consent: bool | None, edits: bool = True
) -> str:
    """One line for each speaker who has no name, or was named by the program.

    Args:
        recording: The one that is open.
        speakers: Its speakers.
        consent: Whether voices may be remembered; None has the page ask when a speaker is named.
        edits: Whether whoever looks may say who somebody is.
    """
    rows = "".join(_row(recording, speaker, edits) for speaker in speakers)
    asks = "<span hidden data-ask-voices></span>" if consent is None else ""
    return (f'<ul class="known-voices" aria-label="Voices">{rows}</ul>' if rows else "") + asks


def _row(recording: Recording, speaker: SpeakerFacts, edits: bool) -> str:
    likeness = speaker.likeness
    if not is_label(speaker.name) and likeness is None:
        return ""
    name, parts = escape(speaker.name), []
    if speaker.snippet is not None and recording.has_media:
        start, end = speaker.snippet.start, speaker.snippet.end
        parts.append(
            f'<button type="button" class="cite" data-play="{start:.3f}" data-until="{end:.3f}" '
            f'data-recording="{escape(recording.id)}" aria-label="Hear {name}">▸ {clock(start)}</button>'
        )
    if likeness is not None:
        voice = escape(likeness.voice)
        known = f"{voice}, known by voice" if likeness.sure else f"{voice}?"
        parts.append(f'<b class="maybe">{known}</b>')
        if edits and not likeness.sure:
            parts.append(_answer(speaker.name, "yes", f"{name} is {voice}", "Yes"))
        if edits:
            parts.append(_answer(speaker.name, "no", f"{name} is not {voice}", "No"))
    return f"<li><span>{name}</span> {' '.join(parts)}</li>" if parts else ""


def _answer(speaker: str, same: str, label: str, text: str) -> str:
    return (
        f'<button type="button" class="btn" data-voice="{escape(speaker)}" data-same="{same}" '
        f'aria-label="{label}">{text}</button>'
    )
