"""The command line: `moss-agent`. Results on stdout, progress and errors on stderr.

Exit code 0: done. 1: it failed, with one line on stderr that says what and what to do. 2: wrong usage.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version as package_version
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from agent.cli import output, streams
from agent.cli.people_commands import add_people_commands
from agent.privacy import switch_off_telemetry
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.disk_space import disk_full, is_disk_full
from index.invalid_values import phrase_of
from index.recording_errors import Cancelled, DiskFull, MossAgentError, OtherEncoding, SpeakerExists
from index.records import Segment, Template
from index.speaker_names import is_label
from moss_audio.errors import MossAudioError

if TYPE_CHECKING:
    from index.corrections.correcting import Changed
    from index.export.vault import Synced


class _Commands(TyperGroup):
    """The commands, which say in plain words what is wrong with an option."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is named."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(wrong := error.__cause__, ValidationError):
                first = wrong.errors(include_url=False)[0]
                told = first.get("ctx", {}).get("error") if first["type"] == "value_error" else None
                error.message = str(told or f"it {phrase_of(first)}.")
            raise


app = typer.Typer(
    cls=_Commands,
    name="moss-agent",
    help="Talk to your long recordings: every answer cites seconds you can play.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMPLETE = "_MOSS_AGENT_COMPLETE"
"""Variable by which a shell asks for completions; its name is typer's rule."""


def _completed_recordings(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of recordings, with their titles, for a shell."""
    # Nothing that goes wrong here may write into a line that somebody is typing.
    with suppress(Exception):
        _Run.home = context.find_root().params.get("home")
        if (Settings(**({"home": _Run.home} if _Run.home else {})).home / "library.sqlite").exists():
            return [(found.id[:12], found.title) for found in _workspace().library.recordings()]
    return []


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="A recording: id, unique prefix, or title.", autocompletion=_completed_recordings
    ),
]
SpeakerCount = Annotated[
    int | None, typer.Option(min=1, max=50, help="Number of speakers; by default it is estimated.")
]
UnnamedCount = Annotated[
    int | None,
    typer.Option(
        min=1, max=50, help="Number of speakers, where media is given and the transcript names nobody."
    ),
]
MediaTrack = Annotated[
    int | None, typer.Option(min=1, max=999, metavar="N", help="The audio track of the media file.")
]
Where = Annotated[
    str, typer.Argument(metavar="WHERE", help="The sentence: a time in it (1:35), or its number (#48).")
]
DropCorrections = Annotated[
    bool,
    typer.Option("--drop-corrections", help="Also where what you corrected is lost by it."),
]
COMMAND_LINE = "command line"
"""Who made a correction, in the history."""
Format = Literal["txt", "srt", "vtt", "md", "json", "docx"]


class _Run:
    """What the global options chose."""

    home: Path | None = None
    name: str | None = None
    debug: bool = False
    workspace: Workspace | None = None


def _show_version(asked: bool) -> None:
    if asked:
        output.say(f"moss-agent {package_version('moss-agent')}")
        raise typer.Exit


@app.callback()
def _global(
    home: Annotated[
        Path | None,
        typer.Option(
            help="Folder everything is kept in (or MOSS_AGENT_HOME).",
            metavar="DIR",
            parser=output.parse_folder,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Act as the account of this name.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and end."),
    ] = False,
) -> None:
    _Run.home, _Run.debug, _Run.name = home, debug, name


@app.command()
def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Media files: audio or video; or transcripts.")
    ],
    title: Annotated[str | None, typer.Option(help="Shown name; by default the file's name.")] = None,
    speakers: SpeakerCount = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            parser=output.parse_language,
            help="The one language that is spoken, such as en; by default it is found for each part.",
        ),
    ] = None,
    track: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=999,
            metavar="N",
            help="The one audio track to hear, as players count; else it is chosen.",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Hear a recording anew that is in the library already.")
    ] = False,
    drop_corrections: DropCorrections = False,
    json: Json = False,
) -> None:
    """Transcribe and index recordings; adding a file again resumes it, or changes its title or speakers."""
    from agent.adding import add_files

    workspace = _workspace()
    webhooks = workspace.webhooks
    added, failed = [], []
    happened: defaultdict[Path, list[str]] = defaultdict(list)

    def tell(file: Path, sentence: str) -> None:
        happened[file].append(sentence)

    with output.ingest_progress(quiet=json) as reporting:
        results = add_files(
            workspace, files, reporting, title, speakers, language, tell, track, again, drop_corrections
        )
        for file, result in results:
            if isinstance(result, MossAgentError):
                if len(files) == 1:
                    webhooks.deliver()
                    raise result
                failed.append(str(result))
                continue
            segments = workspace.library.segment_count(result.id)
            added.append(output.added_json(result, segments))
            sentences = happened.pop(file, [])
            if json:
                for sentence in sentences:
                    output.complain(f"{file.name}: {sentence}")
            else:
                show = output.show_imported if result.imported else output.show_added
                show(result, segments)
                if likenesses := workspace.voices.likenesses(result.id):
                    output.show_likenesses(likenesses)
                for sentence in sentences:
                    output.say(f"  {sentence}")
    for problem in webhooks.deliver():
        output.complain(problem)
    if json:
        output.write_json(added)
    for line in failed:
        output.complain(line)
    if failed:
        raise typer.Exit(1)


@app.command("list")
def list_recordings(json: Json = False) -> None:
    """List the recordings."""
    workspace = _reading()
    recordings = workspace.recordings()
    until = [workspace.kept_until(recording) for recording in recordings]
    if json:
        output.write_json(list(map(output.listed_json, recordings, until)))
    else:
        output.show_list(recordings, until)


@app.command()
def transcript(
    reference: Reference,
    start: Annotated[
        float | None,
        typer.Option("--from", metavar="T", parser=output.parse_time, help="Start: 95, 1:35, 0:01:35."),
    ] = None,
    end: Annotated[
        float | None, typer.Option("--to", metavar="T", parser=output.parse_time, help="End, not included.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Format of what is printed or written.")] = "txt",
    out: Annotated[Path | None, typer.Option("-o", "--output", help="File to write.", dir_okay=False)] = None,
    json: Json = False,
) -> None:
    """Print or export the transcript, or the part of it in a range of time."""
    workspace = _reading()
    # With a file named, --json is about what is printed; the file keeps its format.
    data = workspace.export(reference, "json" if json and out is None else format, start, end)
    if out is not None:
        output.write_file(out, data)
        if json:
            output.write_json({"file": str(out), "bytes": len(data)})
    elif format == "docx" and not json:
        raise MossAgentError("docx is binary: write it to a file with -o FILE.")
    elif json or format == "json":
        output.write_json(loads(data))
    else:
        output.write_text(data.decode("utf-8"))


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="Words or a question.")],
    recording: Annotated[
        str | None,
        typer.Option(help="Search only this recording.", autocompletion=_completed_recordings),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Number of results.")] = 8,
    json: Json = False,
) -> None:
    """Find passages by word and by meaning."""
    workspace = _reading()
    hits = workspace.find(query, recording, k)
    if json:
        output.write_json([output.hit_json(hit) for hit in hits])
    else:
        output.show_hits(hits, workspace.library)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="A question in plain words.")],
    recording: Annotated[
        str | None,
        typer.Option(help="The recording the question is about.", autocompletion=_completed_recordings),
    ] = None,
    thread: Annotated[
        str | None, typer.Option(help="Name of a conversation to continue; any name starts one.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask about the recordings; the answer cites the seconds it rests on."""
    from agent.answer import answer_of

    workspace = _reading()
    _ = workspace.assistant  # while it loads, Ctrl+C ends it at once
    with output.stoppable() as cancel:
        answer = answer_of(workspace.ask(question, recording, thread, cancel))
    if json:
        output.write_json(answer.to_json())
    else:
        output.show_answer(answer, workspace.library)


@app.command()
def listen(
    reference: Reference,
    start: Annotated[
        float, typer.Argument(metavar="START", parser=output.parse_time, help="Start: 95, 1:35, 0:01:35.")
    ],
    end: Annotated[
        float,
        typer.Argument(metavar="END", parser=output.parse_time, help="At most ten minutes after START."),
    ],
    question: Annotated[
        str, typer.Argument(help="A question about what can be heard there; times as in the recording.")
    ],
    json: Json = False,
) -> None:
    """Let MOSS-Audio listen to a stretch again and answer a question about it."""
    workspace = _reading()
    with output.stoppable() as cancel:
        heard = workspace.listen(reference, start, end, question, cancel)
    if json:
        output.write_json({**heard.document(), "recording": heard.recording.id})
    else:
        output.say(f"{heard.answer}\n\n{heard.note}")


@app.command()
def summarize(
    reference: Reference,
    template: Annotated[
        Template | None, typer.Option(help="Kind of recording; by default MOSS_AGENT_SUMMARY_TEMPLATE.")
    ] = None,
    instruction: Annotated[
        str, typer.Option(help="What is wanted, in plain words; a language model follows it.")
    ] = "",
    json: Json = False,
) -> None:
    """Write the summary: topics, decisions, action items, open questions, each with its time."""
    from index.export.markdown import to_markdown

    workspace = _reading()
    if instruction.strip():
        with output.stoppable() as cancel:
            written = workspace.summarize_as(reference, instruction, template, cancel)
        if json:
            output.write_json(written.to_json())
        else:
            output.show_written(written, workspace.library.resolve(reference).title)
        return
    summary = workspace.summarize(reference, template)
    if json:
        output.write_json(summary.to_json())
    else:
        output.write_text(to_markdown(summary, workspace.library.resolve(reference).title))


# --- what the recording's page shows ------------------------------------------------------------------


@app.command("talk-time")
def talk_time(reference: Reference, json: Json = False) -> None:
    """Show how a recording's time is divided between speakers and silence."""
    found = _reading().talk_time(reference)
    if json:
        output.write_json(found.to_json())
    else:
        output.show_talk_time(found)


@app.command()
def comment(
    reference: Reference,
    at: Annotated[
        float, typer.Argument(metavar="AT", parser=output.parse_time, help="The moment: 95, 1:35, 0:01:35.")
    ],
    text: Annotated[str, typer.Argument(help="What is noted there.")],
    json: Json = False,
) -> None:
    """Note something at a moment of a recording."""
    made = _workspace().add_comment(reference, at, text)
    if json:
        output.write_json(output.comment_json(made))
    else:
        output.say(f"Comment {made.id} is at {output.clock(made.at)}.")


@app.command()
def comments(
    reference: Reference,
    remove: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Delete the comment with this number.")
    ] = None,
    change: Annotated[
        tuple[int, str] | None,
        typer.Option(metavar="NUMBER TEXT", help="Give the comment with this number other words."),
    ] = None,
    json: Json = False,
) -> None:
    """List what was noted at moments of a recording; or change or delete one of it."""
    workspace = _workspace() if remove is not None or change is not None else _reading()
    there = {comment.id for comment in workspace.comments(reference)}
    for number in (remove, change[0] if change else None):
        if number is not None and number not in there:
            raise MossAgentError(f"This recording has no comment {number}.")
    if change is not None:
        workspace.change_comment(*change)
    if remove is not None:
        workspace.remove_comment(remove)
    found = workspace.comments(reference)
    if json:
        output.write_json([output.comment_json(one) for one in found])
    else:
        output.show_comments(found)


@app.command("rename-speaker")
def rename_speaker(
    reference: Reference,
    old: Annotated[str, typer.Argument(help="The name shown now, e.g. “Speaker 1”.")],
    new: Annotated[str, typer.Argument(help="The new name.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="If it is the name of another speaker, make the two one.")
    ] = False,
    remember: Annotated[
        bool | None,
        typer.Option(help="Know named voices again in later recordings, or never; else you are asked once."),
    ] = None,
    json: Json = False,
) -> None:
    """Give a speaker a name, everywhere."""
    from tools.read_transcript import known_speaker

    workspace = _workspace()
    untold = _ask_for_voices(workspace, remember, new, json)
    try:
        count = workspace.rename_speaker(reference, old, new, merge, COMMAND_LINE)
    except SpeakerExists as error:
        raise MossAgentError(f"{error} Add --merge for that.") from error
    # Merged with “ANNA”, “anna” is called “ANNA”.
    speaker = known_speaker(workspace.library.resolve(reference), new)
    if json:
        output.write_json({"speaker": speaker, "segments": count})
    else:
        output.say(f"{speaker} is now the speaker of {count} segments.")
    if untold:
        output.complain(untold)


# --- speakers and known voices ---------------------------------------------------------------------------

voices_app = typer.Typer(
    name="voices",
    help="People known by their voice: list, switch on or off, confirm, reject, forget.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(voices_app)
Speaker = Annotated[str, typer.Argument(metavar="SPEAKER", help="The name shown now, e.g. “Speaker 2”.")]


@app.command()
def rename(
    reference: Reference,
    title: Annotated[str, typer.Argument(help="The new title.")],
    json: Json = False,
) -> None:
    """Give a recording another title."""
    recording = _workspace().rename(reference, title)
    if json:
        output.write_json({"id": recording.id, "title": recording.title})
    else:
        output.say(f"{recording.id[:12]} is now called “{recording.title}”.")


@app.command()
def speakers(reference: Reference, json: Json = False) -> None:
    """List who speaks in a recording: how long, where to hear each voice, and who it may be."""
    workspace = _reading()
    found = workspace.speaker_facts(reference)
    if json:
        output.write_json([output.speaker_json(speaker) for speaker in found])
    else:
        output.show_speakers(found)


@voices_app.callback()
def voices(context: typer.Context, json: Json = False) -> None:
    """List the people who are known by their voice, and whether that is switched on."""
    if context.invoked_subcommand is not None:
        return
    workspace = _reading()
    known, consent = workspace.known_voices(), workspace.voices.consent
    if json:
        output.write_json(output.voices_json(known, consent))
    else:
        output.show_voices(known, consent)


@voices_app.command("on")
def voices_on(json: Json = False) -> None:
    """Know voices again: those you name are remembered, which is biometric data."""
    _workspace().allow_voices(True)
    output.write_json({"remembered": True}) if json else output.say(
        "Voices that you name are remembered from now on; `moss-agent voices forget --all` deletes them."
    )


@voices_app.command("off")
def voices_off(json: Json = False) -> None:
    """Stop remembering and comparing voices; what is known stays until it is forgotten."""
    workspace = _workspace()
    workspace.allow_voices(False)
    left = len(workspace.known_voices())
    if json:
        output.write_json({"remembered": False, "known": left})
        return
    output.say("Voices are neither remembered nor compared from now on.")
    if left:
        output.say(f"{left} known before are still stored: `moss-agent voices forget --all` deletes them.")


@voices_app.command("forget")
def voices_forget(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Whose voice.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All known voices.")] = False,
    json: Json = False,
) -> None:
    """Delete what is known of a voice, or of all; names in transcripts stay."""
    if (name is None) != every:
        raise typer.BadParameter("give the name of one voice, or --all.")
    workspace = _workspace()
    forgotten = [voice.name for voice in workspace.known_voices()] if name is None else []
    if name is None:
        workspace.forget_voices()
    else:
        forgotten = [workspace.forget_voice(name)]
    if json:
        output.write_json({"forgotten": forgotten})
    else:
        output.say(f"Forgotten: {', '.join(forgotten) or 'nobody was known'}.")


@voices_app.command("find")
def voices_find(reference: Reference, json: Json = False) -> None:
    """Look for known voices in a recording that was added before they were known."""
    workspace = _workspace()
    found = workspace.find_voices(reference)
    if json:
        output.write_json([output.likeness_json(likeness) for likeness in found])
    else:
        output.show_likenesses(found)


@voices_app.command("confirm")
def voices_confirm(reference: Reference, speaker: Speaker, json: Json = False) -> None:
    """Say that a speaker is who it may be; it carries the name from now on."""
    name = _workspace().confirm_voice(reference, speaker, COMMAND_LINE)
    if json:
        output.write_json({"speaker": speaker, "voice": name, "same": True})
    else:
        output.say(f"{speaker} is {name}.")


@voices_app.command("reject")
def voices_reject(reference: Reference, speaker: Speaker, json: Json = False) -> None:
    """Say that a speaker is not who it may be, or was named as; you are not asked again."""
    name = _workspace().reject_voice(reference, speaker)
    if json:
        output.write_json({"speaker": speaker, "voice": name, "same": False})
    else:
        output.say(f"{speaker} is not {name}.")


def _ask_for_voices(workspace: Workspace, remember: bool | None, name: str, json: bool) -> str:
    """Ask once whether voices may be remembered; ``remember`` answers it on the command line.

    Returns:
        What is still to be said where nobody can be asked; else nothing.
    """
    if remember is not None:
        workspace.allow_voices(remember)
    elif workspace.voices.consent is None and workspace.read_only is None and not is_label(name):
        if json or not sys.stdin.isatty():
            return "Voices are not remembered; `moss-agent voices on` lets them be known again."
        question = (
            "Shall named speakers be known again by their voice in later recordings? How they sound is "
            "stored on this machine only. This is biometric data: have their consent"
        )
        workspace.allow_voices(typer.confirm(question, default=False, err=True))
    return ""


@app.command()
def outline(reference: Reference, json: Json = False) -> None:
    """List the topics of a recording with their times."""
    found = _reading().outline(reference)
    if json:
        output.write_json(found.document())
    else:
        output.show_outline(found)


@app.command()
def correct(
    reference: Reference,
    where: Where,
    text: Annotated[str | None, typer.Argument(help="What the sentence is to be.")] = None,
    speaker: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who says it: a speaker there is, or a new one.")
    ] = None,
    paragraph: Annotated[
        bool, typer.Option("--paragraph", help="With --speaker: all that the speaker says there in a row.")
    ] = False,
    split: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Split the sentence before these words of it.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the sentence with the one that follows.")
    ] = False,
    json: Json = False,
) -> None:
    """Correct a sentence: its text, who says it, or where it begins and ends."""
    from index.corrections.correcting import next_spoken, position_before, turn_of

    if [text is not None, speaker is not None, split is not None, merge].count(True) != 1:
        raise typer.BadParameter("Give the new TEXT, or one of --speaker, --split and --merge.")
    if paragraph and speaker is None:
        raise typer.BadParameter("--paragraph goes with --speaker.")
    workspace = _workspace()
    recording = workspace.library.resolve(reference).id
    segments = workspace.library.segments(recording)
    sentence = _sentence(segments, where)
    seen = {segment.id: segment.version for segment in segments}
    if text is not None:
        changed = workspace.correct_sentence(recording, sentence.id, text, seen, COMMAND_LINE)
    elif speaker is not None:
        whose = turn_of(segments, sentence.id) if paragraph else [sentence.id]
        changed = workspace.give_speaker(recording, whose, speaker, seen, COMMAND_LINE)
    elif split is not None:
        at = position_before(sentence, split)
        changed = workspace.split_sentence(recording, sentence.id, at, seen, COMMAND_LINE)
    else:
        pair = [sentence.id, next_spoken(segments, sentence).id]
        changed = workspace.merge_sentences(recording, pair, seen, COMMAND_LINE)
    _show_changed(changed, json)


@app.command()
def history(
    reference: Reference,
    where: Annotated[
        str | None, typer.Argument(metavar="[WHERE]", help="Only the sentence there: a time, or #number.")
    ] = None,
    json: Json = False,
) -> None:
    """List what was corrected, newest first, with what was there before."""
    workspace = _reading()
    recording = workspace.library.resolve(reference).id
    sentence = None if where is None else _sentence(workspace.library.segments(recording), where).id
    found = workspace.correction_history(recording, sentence)
    if json:
        output.write_json([entry.to_json() for entry in found])
    else:
        output.show_history(found)


@app.command()
def undo(
    reference: Reference,
    redo: Annotated[
        bool, typer.Option("--redo", help="Make the correction again that was undone last.")
    ] = False,
    json: Json = False,
) -> None:
    """Take the newest correction back, also after a restart."""
    _show_changed(_workspace().undo_correction(reference, redo), json)


def _sentence(segments: list[Segment], where: str) -> Segment:
    """The sentence that is meant by a time or a number."""
    from index.corrections.correcting import sentence_at, sentence_numbered

    if where.strip().startswith("#"):
        return sentence_numbered(segments, output.parse_number(where))
    return sentence_at(segments, output.parse_time(where))


def _show_changed(changed: Changed, json: bool) -> None:
    """What a correction made of the sentences."""
    if json:
        output.write_json(changed.to_json())
    else:
        output.show_changed(changed)


@app.command("hear-again")
def hear_again(reference: Reference, drop_corrections: DropCorrections = False, json: Json = False) -> None:
    """Transcribe a recording anew from its audio copy, or go on with one that broke off."""
    workspace = _workspace()
    losing = workspace.corrections_lost(reference) if drop_corrections else 0
    with output.ingest_progress(quiet=json) as reporting:
        report = reporting(workspace.library.resolve(reference).title)
        recording = workspace.hear_again(reference, report, losing=losing)
    segments = workspace.library.segment_count(recording.id)
    if json:
        output.write_json(output.added_json(recording, segments))
    else:
        output.show_added(recording, segments)


@app.command("relabel-speakers")
def relabel_speakers(
    reference: Reference,
    speakers: SpeakerCount = None,
    drop_corrections: DropCorrections = False,
    json: Json = False,
) -> None:
    """Identify the speakers again, for example with their true number; names you gave are lost."""
    workspace = _workspace()
    with output.ingest_progress(quiet=json) as reporting:
        report = reporting(workspace.library.resolve(reference).title)
        recording = workspace.relabel_speakers(reference, speakers, report, drop_corrections)
    if json:
        output.write_json({"id": recording.id, "speakers": list(recording.speakers)})
    else:
        output.say(f"Speakers (estimated): {', '.join(recording.speakers) or 'none'}.")


@app.command()
def remove(reference: Reference, drop_corrections: DropCorrections = False, json: Json = False) -> None:
    """Delete a recording from every store; the original file is not touched."""
    workspace = _workspace()
    recording = workspace.remove(reference, drop_corrections)
    if json:
        output.write_json({"removed": recording.id, "title": recording.title})
    else:
        output.say(f"Removed “{recording.title}”; nothing of it is left in {workspace.home}.")


@app.command()
def reindex(json: Json = False) -> None:
    """Rebuild the search index from the database, after it was lost or the embedder changed."""
    with output.plain_progress("Indexing", quiet=json) as report:
        count = _workspace().reindex(report)
    if json:
        output.write_json({"passages": count})
    else:
        output.say(f"{count} passages are indexed.")


@app.command()
def move(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Home folder that is copied; it stays as it is.", file_okay=False
        ),
    ],
    json: Json = False,
) -> None:
    """Copy a home folder into the database, vectors and audio that the settings name, and compare the two.

    Stopped with Ctrl+C or interrupted, the same command goes on (docs/scale.md).
    """
    from agent.moving import move as copy_home

    with output.staged_progress(quiet=json) as report, output.stoppable() as cancel:
        moved = copy_home(source, _workspace(), report, cancel)
    if json:
        output.write_json(output.moved_json(moved))
    else:
        output.say(
            f"{moved.recordings} recordings are in the new stores and the same there: {moved.rows} rows, "
            f"{moved.audio} audio copies, {moved.vectors} vectors, {moved.conversations} conversations."
        )


@app.command()
def doctor(json: Json = False) -> None:
    """Check the installation and each part of the settings, and say which engines transcribe and answer."""
    from agent.cli.doctor import examine, examine_parts

    settings = _settings()
    try:
        workspace = _workspace()
    except MossAgentError as error:
        checks = examine_parts(settings, error)
    else:
        checks = examine(workspace)
    if json:
        output.write_json([check.to_json() for check in checks])
    else:
        output.show_checks(checks)
    if not all(check.ok for check in checks if check.required):
        raise typer.Exit(1)


@app.command()
def models(
    action: Annotated[
        Literal["download"] | None,
        typer.Argument(metavar="[download]", help="Download the named checkpoint."),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A checkpoint; “8b-thinking” is enough.")
    ] = None,
    json: Json = False,
) -> None:
    """List the released checkpoints and whether they fit this machine; or download one."""
    from agent.engines.released_models import download, full_name, released, this_machine

    if action is None:
        machine = this_machine()
        found = released(machine)
        if json:
            output.write_json([model.to_json() for model in found])
        else:
            output.show_models(found, machine)
        return
    if name is None:
        raise MossAgentError(
            "Name a checkpoint: `moss-agent models download NAME`; `moss-agent models` lists them."
        )
    wanted = full_name(name)
    try:
        with output.download_progress(wanted, quiet=json) as report:
            folder = download(wanted, report)
    except KeyboardInterrupt:
        raise MossAgentError(
            f"Stopped; the part of {wanted} already downloaded is kept: run it again to resume."
        ) from None
    if json:
        output.write_json({"name": wanted, "folder": str(folder)})
    else:
        output.say(f"{wanted} is in {folder}; to use it, set MOSS_AGENT_MODEL={wanted}.")


@app.command()
def web(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; any other than 127.0.0.1 can be reached from other machines."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    watched: Annotated[
        Path | None,
        typer.Option("--watch", metavar="FOLDER", help="Also take in what appears in a folder, as `watch`."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the address as JSON once the page is ready.")
    ] = False,
) -> None:
    """Open the page."""
    # The page lies above this room, so it is found by name: web imports agent, never the other way.
    from importlib import import_module

    workspace = _workspace()
    import_module("web.server").serve(workspace, host, port, json, _watching_beside(workspace, watched))


@app.command()
def serve(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; any other than 127.0.0.1 can be reached from other machines."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(help="Key that clients must send.", envvar="MOSS_AGENT_SERVE_API_KEY")
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Accept requests from other machines without a key.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Without a key: another host name to accept (repeatable)."),
    ] = None,
    library: Annotated[
        bool,
        typer.Option("--library", help="Offer the library as well, under /api/v1, to whoever has the key."),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the address as JSON once the server is ready.")
    ] = False,
) -> None:
    """Serve the model and the recogniser through an OpenAI-compatible API (docs/api.md)."""
    from importlib import import_module

    import_module("web.api.api_server").serve(
        _workspace(), host, port, api_key, no_auth, json, allow_host or (), library
    )


@app.command()
def mcp(
    http: Annotated[
        bool, typer.Option("--http", help="Streamable HTTP on 127.0.0.1, not standard input and output.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="With --http: port to listen on.")] = 7861,
    api_key: Annotated[
        str | None,
        typer.Option(help="With --http: key that clients must send.", envvar="MOSS_AGENT_SERVE_API_KEY"),
    ] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder that clients may add files from (repeatable); with --http, there is no other.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="With --http: print the address as JSON once the server is ready.")
    ] = False,
) -> None:
    """Serve the library to assistants through the Model Context Protocol (docs/doors.md)."""
    from importlib import import_module

    import_module("web.mcp_server").serve(_workspace(), http, port, api_key, folder or (), json)


# Transcripts in, notes out, folders watched


@app.command("import")
def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…", help="Transcripts: srt, vtt, json of Whisper's kin, text with times."
        ),
    ],
    media: Annotated[
        Path | None,
        typer.Option(
            help="The media file of the one transcript; it can also be given later.", dir_okay=False
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Shown name; by default the file's name.")] = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE", parser=output.parse_language, help="What is spoken, where no file says so."
        ),
    ] = None,
    speakers: UnnamedCount = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Encoding of the files, where it is not Unicode.")
    ] = None,
    offset: Annotated[
        float | None,
        typer.Option(
            metavar="T", parser=output.parse_time, help="What the transcript's clock shows at the beginning."
        ),
    ] = None,
    track: MediaTrack = None,
    json: Json = False,
) -> None:
    """Import transcripts that were made elsewhere; they are asked and cited as recordings are."""
    if len(files) > 1 and (media is not None or title is not None):
        raise MossAgentError("With --media or --title, import one transcript at a time.")
    workspace = _workspace()
    imported, failed = [], []
    with output.ingest_progress(quiet=json) as reporting, output.stoppable() as cancel:
        for file in files:
            told: list[str] = []
            try:
                recording = workspace.import_transcript(
                    file, media, title, language, speakers, encoding, offset,
                    reporting(file.name), cancel, told.append, track,
                )  # fmt: skip
            except Cancelled:
                raise
            except MossAgentError as error:
                said = error
                if isinstance(error, OtherEncoding):
                    said = OtherEncoding(f"{error} Add --encoding cp1252, for example.")
                if len(files) == 1:
                    raise said from error.__cause__
                failed.append(str(said))
                continue
            segments = workspace.library.segment_count(recording.id)
            imported.append(output.added_json(recording, segments))
            if not json:
                output.show_imported(recording, segments)
            for sentence in told:
                if json:
                    output.complain(f"{file.name}: {sentence}")
                else:
                    output.say(f"  {sentence}")
    for problem in workspace.webhooks.deliver():
        output.complain(problem)
    if json:
        output.write_json(imported)
    for line in failed:
        output.complain(line)
    if failed:
        raise typer.Exit(1)


@app.command()
def attach(
    reference: Reference,
    media: Annotated[
        Path,
        typer.Argument(metavar="MEDIA", help="The media file of an imported transcript.", dir_okay=False),
    ],
    speakers: UnnamedCount = None,
    track: MediaTrack = None,
    json: Json = False,
) -> None:
    """Give an imported transcript its media file, so that it plays; the transcript stays as it is."""
    workspace = _workspace()
    with output.ingest_progress(quiet=json) as reporting, output.stoppable() as cancel:
        report = reporting(media.name)
        recording = workspace.attach_media(reference, media, speakers, report, cancel, track)
    segments = workspace.library.segment_count(recording.id)
    if json:
        output.write_json(output.added_json(recording, segments))
    else:
        output.show_imported(recording, segments)


@app.command()
def sync(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of notes; it is made.")],
    base: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The page's address in links; by default MOSS_AGENT_PAGE_URL."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on, and follow every change of the library, until Ctrl+C.")
    ] = False,
    json: Json = False,
) -> None:
    """Keep a Markdown note for each recording in a folder; what you write in the notes stays."""
    workspace = _workspace()
    notes: list[Synced] = []
    with output.stoppable() as cancel:
        if follow:
            output.complain(f"Following the library in {folder}; Ctrl+C ends it.")
        run = workspace.follow_notes(folder, cancel, base) if follow else workspace.sync_notes(folder, base)
        for note in run:
            notes.append(note)
            if not json:
                output.show_synced(note)
            if cancel.is_set():
                break
    if json:
        output.write_json([output.synced_json(note) for note in notes])
    elif not follow:
        output.say(output.synced_counts(notes))
    if any(note.action == "left" for note in notes):
        raise typer.Exit(1)


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder in which files appear.")],
    once: Annotated[bool, typer.Option("--once", help="Take in what is there, then end.")] = False,
    settle: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="For how long a file must not change before it is taken."
        ),
    ] = 5.0,
    speakers: SpeakerCount = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", parser=output.parse_language, help="The one language that is spoken."),
    ] = None,
    json: Json = False,
) -> None:
    """Take in the media and transcripts that appear in a folder, until Ctrl+C."""
    from agent.watching import Watch

    workspace = _workspace()
    workspace.webhooks.start()
    taken: list[dict[str, Any]] = []
    failed = False
    with output.ingest_progress(quiet=json, keep=False) as reporting, output.stoppable() as cancel:
        watched = Watch(
            workspace,
            folder,
            reporting,
            cancel,
            output.complain,
            settle,
            speakers=speakers,
            language=language,
        )
        if not once:
            output.complain(f"Watching {folder}; Ctrl+C ends it.")
        for file in watched.run(once):
            failed = failed or bool(file.problem)
            segments = workspace.library.segment_count(file.recording.id) if file.recording else 0
            document = output.added_json(file.recording, segments) if file.recording else None
            taken.append({"file": str(file.path), "recording": document, "problem": file.problem})
            if json:
                continue
            if file.problem:
                output.complain(file.problem)
            elif file.recording is not None:
                show = output.show_imported if file.recording.imported else output.show_added
                show(file.recording, segments)
            for sentence in file.told:
                output.say(f"  {sentence}")
    if json:
        output.write_json(taken)
    elif once and not taken:
        output.say(f"There was nothing new in {folder}.")
    if once and failed:
        raise typer.Exit(1)


@contextmanager
def _watching_beside(workspace: Workspace, folder: Path | None) -> Iterator[None]:
    """Watch a folder in a thread of this process, which may write to the home folder beside the page."""
    if folder is None:
        yield
        return
    from agent.watching import Watch

    watched = Watch(workspace, folder, lambda name: lambda progress: None, told=output.complain)

    def run() -> None:
        try:
            for file in watched.run():
                title = file.recording.title if file.recording else ""
                output.complain(file.problem or f"{file.path.name} was taken in as “{title}”.")
        except MossAgentError as error:
            output.complain(f"{folder} is not watched any more: {error}")

    thread = threading.Thread(target=run, name="watching", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watched.stop.set()
        thread.join()


@app.command()
def demo(
    home: Annotated[
        Path | None,
        typer.Option(
            help="Folder to keep it in, empty or an earlier demo's; by default all is deleted.",
            metavar="DIR",
            parser=output.parse_folder,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; by default a free one.")] = 0,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Whether the page is opened.")] = True,
    json: Annotated[
        bool, typer.Option("--json", help="Print the answers as JSON, without opening the page.")
    ] = False,
) -> None:
    """Show what the program does: a sample meeting, some questions, the page.

    Your own library is not touched.
    """
    from importlib import import_module

    from agent.cli.demo import converse, demo_home

    server = import_module("web.server")
    with demo_home(home or _Run.home) as folder:
        # The stores of one's own library are named apart from its folder.
        workspace = _workspace(home=folder, database=None, vectors=None, audio=None)
        try:
            document = converse(workspace, server.SAMPLE, server.SAMPLE_TITLE, json)
            if json:
                output.write_json(document)
            elif page:
                output.say("")
                server.serve(workspace, port=port)
        finally:
            workspace.close()
            _Run.workspace = None


cluster_app = typer.Typer(
    name="cluster",
    help="Machines that work together with Ray (docs/scale.md): what they do, and how they join.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cluster_app)

Cpus = Annotated[int | None, typer.Option(min=0, help="Processors it gives; by default all.")]
Gpus = Annotated[int | None, typer.Option(min=0, help="GPUs it gives; by default all.")]
Foreground = Annotated[
    bool,
    typer.Option("--foreground", help="Stay until the cluster ends, as a container's first process does."),
]


@cluster_app.callback()
def cluster(context: typer.Context, json: Json = False) -> None:
    """Machines that work together with Ray (docs/scale.md); alone, as `cluster status`."""
    if context.invoked_subcommand is None:
        cluster_status("", json)


@cluster_app.command("start")
def cluster_start(
    host: Annotated[
        str, typer.Option(help="This machine's address; others can join if it is one that they reach.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where others join.")] = 6379,
    cpus: Cpus = None,
    gpus: Gpus = None,
    foreground: Foreground = False,
    json: Json = False,
) -> None:
    """Start a Ray cluster whose first machine is this one."""
    from index.cluster.ray_nodes import start_head
    from index.cluster.ray_session import TOKEN_FILE

    address = start_head(host, port, cpus, gpus, foreground)
    if json:
        output.write_json({"address": address})
        return
    output.say(f"The cluster is up. Use it with MOSS_AGENT_RAY={address}.")
    if host not in ("127.0.0.1", "localhost"):
        output.say(
            f"Other machines join with `moss-agent cluster join {address}`, once ~/{TOKEN_FILE} of this one "
            "is there as well. Whoever has that token can run any program on all of them."
        )


@cluster_app.command("join")
def cluster_join(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="What `cluster start` said.")],
    host: Annotated[
        str | None,
        typer.Option(help="This machine's address as the others reach it; by default Ray finds it."),
    ] = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    foreground: Foreground = False,
    json: Json = False,
) -> None:
    """Let this machine work for a cluster."""
    from index.cluster.ray_nodes import join

    join(address, host, cpus, gpus, foreground)
    if json:
        output.write_json({"address": address})
    else:
        output.say(f"This machine works for {address}; `moss-agent cluster stop` ends that.")


@cluster_app.command("status")
def cluster_status(
    address: Annotated[
        str,
        typer.Argument(metavar="[ADDRESS]", help="By default MOSS_AGENT_RAY, else the one of this machine."),
    ] = "",
    json: Json = False,
) -> None:
    """Show the machines of a cluster, and what each worker does."""
    from index.cluster.ray_session import ClusterLink

    link = ClusterLink(address or Settings().ray or "auto")
    try:
        session = link.session()
        machines, workers = session.machines(), session.status()
    finally:
        link.close()
    if json:
        known = [{"id": machine.id, "cpus": machine.cpus, "gpus": machine.gpus} for machine in machines]
        output.write_json({"machines": known, "workers": workers})
    else:
        output.show_cluster(machines, workers)


@cluster_app.command("stop")
def cluster_stop(json: Json = False) -> None:
    """End all that Ray runs on this machine for this user."""
    from index.cluster.ray_nodes import stop

    stop()
    if json:
        output.write_json({"stopped": True})
    else:
        output.say("Ray no longer runs on this machine.")


@app.command()
def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")
    ],
    json: Json = False,
) -> None:
    """Print what makes a shell complete commands, options and recordings.

    docs/commands.md says where it goes.
    """
    from typer.completion import get_completion_script

    script = get_completion_script(prog_name="moss-agent", complete_var=COMPLETE, shell=shell)
    if json:
        output.write_json({"shell": shell, "script": script})
    else:
        output.write_text(script)


def _settings(**fixed: Any) -> Settings:
    # Only what was given on the command line goes in here; the rest comes from the environment.
    chosen: dict[str, Any] = {"home": _Run.home} if _Run.home else {}
    chosen |= fixed
    try:
        return Settings(**chosen)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper().removeprefix("MOSS_AGENT_")
        raise MossAgentError(
            f"MOSS_AGENT_{name} cannot be “{first['input']}”: it {phrase_of(first)} (docs/settings.md)."
        ) from error


def _workspace(**fixed: Any) -> Workspace:
    _Run.workspace = open_workspace(_settings(**fixed))
    if _Run.name is not None:
        _Run.workspace.act_as(_Run.name)
    return _Run.workspace


def _reading() -> Workspace:
    """The workspace for a command that changes nothing; says so where nothing could be changed."""
    workspace = _workspace()
    if workspace.read_only is not None:
        is_full = isinstance(workspace.read_only, DiskFull)
        why = "The disk is full" if is_full else "The home folder cannot be written"
        output.complain(f"{why}, so {workspace.home} is only read, and no conversation is stored.")
    return workspace


add_people_commands(app, _workspace)


def main() -> None:
    """Entry point: turns every error into one line on stderr and an exit code."""
    switch_off_telemetry()
    # A shell without job control starts background jobs with SIGINT ignored, and Python keeps it so:
    # `kill -INT` would not stop a download of gigabytes. What a stopped command has done is kept.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = _run()
    finally:
        if _Run.workspace is not None:
            _Run.workspace.close()
            _Run.workspace = None
    raise SystemExit(code)


def _run() -> int:
    """Run the command, and write out what it printed; returns the exit code."""
    try:
        streams.prepare()
        if COMPLETE in os.environ:
            from typer.completion import completion_init

            completion_init()
        try:
            app(prog_name="moss-agent")
        finally:
            # In this place what cannot be written is told like every other error.
            streams.finish()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except (MossAgentError, MossAudioError) as error:
        if _Run.debug:
            raise
        output.complain(str(error))
    except BrokenPipeError:
        pass
    except Exception as error:
        if _Run.debug:
            raise
        home = _Run.workspace.home if _Run.workspace else None
        if home is not None and is_disk_full(error, home):
            output.complain(str(disk_full(home)))
            return 1
        kind = type(error).__name__
        output.complain(f"Unexpected error ({kind}: {output.one_line(error)}); --debug shows the traceback.")
    return 1
