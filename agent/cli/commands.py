"""The command line: `moss-agent`. Results on stdout, progress and errors on stderr.

Exit code 0: done. 1: it failed, with one line on stderr that says what and what to do. 2: wrong usage.
"""

from __future__ import annotations

import signal
import sys
from collections import defaultdict
from json import loads
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from agent.cli import output, streams
from agent.privacy import switch_off_telemetry
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.disk_space import disk_full, is_disk_full
from index.recording_errors import DiskFull, MossAgentError
from index.records import Template
from index.speaker_names import is_label
from moss_audio.errors import MossAudioError

app = typer.Typer(
    name="moss-agent",
    help="Talk to your long recordings: every answer cites seconds you can play.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Reference = Annotated[str, typer.Argument(metavar="ID", help="A recording: id, unique prefix, or title.")]
Format = Literal["txt", "srt", "vtt", "md", "json", "docx"]


class _Run:
    """What the global options chose."""

    home: Path | None = None
    debug: bool = False
    workspace: Workspace | None = None


@app.callback()
def _global(
    home: Annotated[
        Path | None, typer.Option(help="Folder everything is kept in (or MOSS_AGENT_HOME).", file_okay=False)
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    _Run.home, _Run.debug = home, debug


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Media files: audio or video.")],
    title: Annotated[str | None, typer.Option(help="Shown name; by default the file's name.")] = None,
    speakers: Annotated[
        int | None, typer.Option(min=1, max=50, help="Number of speakers; by default it is estimated.")
    ] = None,
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
    json: Json = False,
) -> None:
    """Transcribe and index recordings; adding a file again resumes it, or changes its title or speakers."""
    from agent.adding import add_files

    workspace = _workspace()
    added, failed = [], []
    happened: defaultdict[Path, list[str]] = defaultdict(list)

    def tell(file: Path, sentence: str) -> None:
        happened[file].append(sentence)

    with output.ingest_progress(quiet=json) as reporting:
        for file, result in add_files(workspace, files, reporting, title, speakers, language, tell, track):
            if isinstance(result, MossAgentError):
                if len(files) == 1:
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
                output.show_added(result, segments)
                if likenesses := workspace.voices.likenesses(result.id):
                    output.show_likenesses(likenesses)
                for sentence in sentences:
                    output.say(f"  {sentence}")
    if json:
        output.write_json(added)
    for line in failed:
        output.complain(line)
    if failed:
        raise typer.Exit(1)


@app.command("list")
def list_recordings(json: Json = False) -> None:
    """List the recordings."""
    recordings = _reading().library.recordings()
    if json:
        output.write_json([output.listed_json(recording) for recording in recordings])
    else:
        output.show_list(recordings)


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
    recording: Annotated[str | None, typer.Option(help="Search only this recording.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Number of results.")] = 8,
    json: Json = False,
) -> None:
    """Find passages by word and by meaning."""
    workspace = _reading()
    wanted = workspace.library.resolve(recording).id if recording else None
    hits = workspace.search.search(query, wanted, k)
    if json:
        output.write_json([output.hit_json(hit) for hit in hits])
    else:
        output.show_hits(hits, workspace.library)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="A question in plain words.")],
    recording: Annotated[str | None, typer.Option(help="The recording the question is about.")] = None,
    thread: Annotated[
        str | None, typer.Option(help="Name of a conversation to continue; any name starts one.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask about the recordings; the answer cites the seconds it rests on."""
    workspace = _reading()
    wanted = workspace.library.resolve(recording).id if recording else None
    assistant = workspace.assistant
    with output.stoppable() as cancel:
        answer = assistant.ask(question, wanted, thread, cancel)
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
    from tools.listen import listen as listen_again

    workspace = _reading()
    with output.stoppable() as cancel:
        heard = listen_again(workspace.toolbox, reference, start, end, question, cancel)
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
    json: Json = False,
) -> None:
    """Write the summary: topics, decisions, action items, open questions, each with its time."""
    from index.export.markdown import to_markdown

    workspace = _reading()
    summary = workspace.summarize(reference, template)
    if json:
        output.write_json(summary.to_json())
    else:
        output.write_text(to_markdown(summary, workspace.library.resolve(reference).title))


@app.command("rename-speaker")
def rename_speaker(
    reference: Reference,
    old: Annotated[str, typer.Argument(help="The name shown now, e.g. “Speaker 1”.")],
    new: Annotated[str, typer.Argument(help="The new name; the name of another speaker merges the two.")],
    remember: Annotated[
        bool | None,
        typer.Option(help="Know named voices again in later recordings, or never; else you are asked once."),
    ] = None,
    json: Json = False,
) -> None:
    """Give a speaker a name, everywhere."""
    from tools.read_transcript import known_speaker

    workspace = _workspace()
    _ask_for_voices(workspace, remember, new, json)
    count = workspace.rename_speaker(reference, old, new)
    # Merged with “ANNA”, “anna” is called “ANNA”.
    speaker = known_speaker(workspace.library.resolve(reference), new)
    if json:
        output.write_json({"speaker": speaker, "segments": count})
    else:
        output.say(f"{speaker} is now the speaker of {count} segments.")


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
def speakers(reference: Reference, json: Json = False) -> None:
    """List who speaks in a recording: how long, where to hear each voice, and who it may be."""
    workspace = _reading()
    found = workspace.speakers(reference)
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
    name = _workspace().confirm_voice(reference, speaker)
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


def _ask_for_voices(workspace: Workspace, remember: bool | None, name: str, json: bool) -> None:
    """Ask once whether voices may be remembered; ``remember`` answers it on the command line."""
    if remember is not None:
        workspace.allow_voices(remember)
    elif workspace.voices.consent is None and workspace.read_only is None and not is_label(name):
        if json or not sys.stdin.isatty():
            output.complain("Voices are not remembered; `moss-agent voices on` lets them be known again.")
            return
        question = (
            "Shall named speakers be known again by their voice in later recordings? How they sound is "
            "stored on this machine only. This is biometric data: have their consent"
        )
        workspace.allow_voices(typer.confirm(question, default=False, err=True))


@app.command("relabel-speakers")
def relabel_speakers(
    reference: Reference,
    speakers: Annotated[
        int | None, typer.Option(min=1, max=50, help="Number of speakers; by default it is estimated.")
    ] = None,
    json: Json = False,
) -> None:
    """Identify the speakers again, for example with their true number; names you gave are lost."""
    workspace = _workspace()
    with output.ingest_progress(quiet=json) as reporting:
        report = reporting(workspace.library.resolve(reference).title)
        recording = workspace.relabel_speakers(reference, speakers, report)
    if json:
        output.write_json({"id": recording.id, "speakers": list(recording.speakers)})
    else:
        output.say(f"Speakers (estimated): {', '.join(recording.speakers) or 'none'}.")


@app.command()
def remove(reference: Reference, json: Json = False) -> None:
    """Delete a recording from every store; the original file is not touched."""
    workspace = _workspace()
    recording = workspace.remove(reference)
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
def doctor(json: Json = False) -> None:
    """Check the installation, and say which engines transcribe and answer."""
    from agent.cli.doctor import examine

    checks = examine(_workspace())
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
    json: Annotated[
        bool, typer.Option("--json", help="Print the address as JSON once the page is ready.")
    ] = False,
) -> None:
    """Open the page."""
    # The page lies above this room, so it is found by name: web imports agent, never the other way.
    from importlib import import_module

    import_module("web.server").serve(_workspace(), host, port, json)


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
    json: Annotated[
        bool, typer.Option("--json", help="Print the address as JSON once the server is ready.")
    ] = False,
) -> None:
    """Serve the model and the recogniser through an OpenAI-compatible API (docs/api.md)."""
    from importlib import import_module

    import_module("web.api.api_server").serve(
        _workspace(), host, port, api_key, no_auth, json, allow_host or ()
    )


def _workspace() -> Workspace:
    # Only what was given on the command line goes in here; the rest comes from the environment.
    chosen: dict[str, Any] = {"home": _Run.home} if _Run.home else {}
    try:
        settings = Settings(**chosen)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise MossAgentError(
            f"MOSS_AGENT_{name} cannot be “{first['input']}”: {first['msg']} (docs/settings.md)."
        ) from error
    _Run.workspace = open_workspace(settings)
    return _Run.workspace


def _reading() -> Workspace:
    """The workspace for a command that changes nothing; says so where nothing could be changed."""
    workspace = _workspace()
    if workspace.read_only is not None:
        is_full = isinstance(workspace.read_only, DiskFull)
        why = "The disk is full" if is_full else "The home folder cannot be written"
        output.complain(f"{why}, so {workspace.home} is only read, and no conversation is stored.")
    return workspace


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
        try:
            app()
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
