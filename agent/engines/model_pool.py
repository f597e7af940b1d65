"""Several servers of one model as one ``Backend``: a request goes to the server that has the fewest.

A server that fails is left out, for longer each time, and then tried with one request; what it had not begun
to answer goes to another. An answer that has begun to be handed out is never asked for again elsewhere. How
busy servers are is known of this process's requests alone.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from moss_audio.errors import MossAudioError, ServerError
from moss_audio.generation.requests import Event, Options, Reply, Request
from moss_audio.served import Served, ServedBackend

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds for which a server that failed is left out; twice as long each time."""

CONTACT_SECONDS = 15.0
"""How long a server may take to say what it serves; less than all of them may take at a start."""

ROUNDS = 4
"""How often all servers are tried for one request where the failure may pass."""

ROUND_SECONDS = 0.5
"""Before the second round; twice as long before the next."""

LEAVES_OUT = ("unreachable", "unauthorised", "address", "unknown-model", "slow", "failed", "broken", "busy")
"""Troubles that another server of the same model need not have."""

PASSES = ("unreachable", "busy", "slow", "failed", "broken")
"""Troubles that may be over in a moment."""


@dataclass(eq=False)
class Member:
    """One server.

    Attributes:
        backend: The model that it serves.
        running: Requests that are on their way to it.
        failures: How often it failed since it last answered.
        problem: What it failed with last; empty where it answered.
        out_until: When it may be tried again, in seconds of the monotonic clock.
        used: The number of the request that it was last given.
    """

    backend: ServedBackend
    running: int = 0
    failures: int = 0
    problem: str = ""
    out_until: float = 0.0
    used: int = 0

    @property
    def host(self) -> str:
        """How people are shown it."""
        return self.backend.host


class ModelPool:
    """Servers of one model; see ``Backend``.

    Args:
        urls: Their addresses, two at least.
        make: Makes the backend of an address; given a name, of that model there. It should try nothing
            again by itself, since another server may answer at once.

    Attributes:
        members: The servers, in the order of their addresses.

    Raises:
        ServerError: One of the addresses is none.
    """

    def __init__(self, urls: Sequence[str], make: Callable[[str, str | None], ServedBackend]) -> None:
        self._make = make
        self._urls = list(urls)
        self.members = [Member(make(url, None)) for url in urls]
        self._lock = threading.Lock()
        self._closed = False
        self._numbers = itertools.count(1)

    @property
    def host(self) -> str:
        """All hosts, as people are shown them."""
        return ", ".join(member.host for member in self.members)

    @property
    def name(self) -> str:
        """The model's name once a server has said it, before that the first one's host."""
        return self._first.backend.name

    @property
    def thinks(self) -> bool:
        """See ``Backend``."""
        return any(member.backend.thinks for member in self.members)

    @property
    def at_once(self) -> int:
        """See ``Backend``; of all servers, since one that is left out may come back."""
        return sum(member.backend.at_once for member in self.members)

    @property
    def hears(self) -> bool:
        """Whether one of the servers takes audio."""
        reached = [member for member in self.members if member.backend.reached]
        return any(member.backend.hears for member in reached or self.members)

    @property
    def reached(self) -> bool | None:
        """Whether some server could be used when it was last asked; None before any was."""
        known = [member.backend.reached for member in self.members]
        return True if True in known else None if None in known else False

    @property
    def _first(self) -> Member:
        return next((member for member in self.members if member.backend.reached), self.members[0])

    def check(self, listen: bool = False) -> Served:
        """Ask every server which model it serves; those that fail, or serve another, are left out.

        Args:
            listen: As in ``ServedBackend.check``.

        Returns:
            What the first of them serves, with the smallest context of all.

        Raises:
            ServerError: None of them can be used.
        """

        def ask(member: Member) -> Served | MossAudioError:
            try:
                return member.backend.check(listen)
            except MossAudioError as error:
                return error

        found = _side_by_side(ask, self.members)
        served = next((answer for answer in found if isinstance(answer, Served)), None)
        for at, (member, answer) in enumerate(zip(self.members, found, strict=True)):
            if isinstance(answer, Served) and served is not None and answer.name != served.name:
                other = ServerError(
                    f"The server at {member.host} serves {answer.name}, and another one {served.name}; only "
                    "servers of one model can share its work.",
                    "unknown-model",
                )
                member.backend.close()
                member.backend = self._make(self._urls[at], served.model)
                self._failed(member, other)
            elif isinstance(answer, MossAudioError):
                self._failed(member, answer)
            else:
                self._answered(member)
        if served is None:
            raise _none_left([answer for answer in found if isinstance(answer, MossAudioError)])
        contexts = [answer.context for answer in found if isinstance(answer, Served) and answer.context]
        return Served(served.model, served.software, min(contexts, default=None), served.others)

    def problems(self) -> list[str]:
        """What each server that is left out failed with."""
        return [member.problem for member in self.members if member.problem]

    def ask(
        self, requests: Sequence[Request], options: Options, cancel: threading.Event | None = None
    ) -> list[Reply | MossAudioError]:
        """See ``Backend``."""
        stop = _Either(cancel)

        def answer(request: Request) -> Reply | MossAudioError:
            def once(member: Member) -> Reply:
                (reply,) = member.backend.ask([request], options, stop)
                if isinstance(reply, MossAudioError):
                    raise reply
                return reply

            try:
                return self._anywhere(once, bool(request.audios), stop)
            except MossAudioError as error:
                return error

        if len(requests) <= 1:
            return [answer(request) for request in requests]
        threads = ThreadPoolExecutor(min(len(requests), self.at_once), "served-models")
        try:
            return list(threads.map(answer, requests))
        except BaseException:
            stop.set()  # left by Ctrl+C, the requests end as well
            raise
        finally:
            threads.shutdown(cancel_futures=True)

    def stream(
        self, request: Request, options: Options, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """See ``Backend``."""
        return self._follow(
            lambda backend: backend.stream(request, options, cancel), bool(request.audios), cancel
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Options,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """See ``Backend``."""
        return self._follow(lambda backend: backend.chat(messages, tools, options, cancel), False, cancel)

    def close(self) -> None:
        """See ``Backend``."""
        self._closed = True
        for member in self.members:
            member.backend.close()

    def _follow(
        self,
        begin: Callable[[ServedBackend], Iterator[Event]],
        audio: bool,
        cancel: threading.Event | None,
    ) -> Iterator[Event]:
        """Events of one answer; it is asked for elsewhere only while none has come."""
        tries = _Tries(self, audio, cancel)
        while True:
            with tries.member() as member:
                begun = False
                try:
                    for event in begin(member.backend):
                        begun = True
                        yield event
                    self._answered(member)
                    return
                except ServerError as error:
                    tries.failed(member, error, final=begun)

    def _anywhere(
        self, once: Callable[[Member], Reply], audio: bool, cancel: threading.Event | None
    ) -> Reply:
        """An answer from whichever server gives one."""
        tries = _Tries(self, audio, cancel)
        while True:
            with tries.member() as member:
                try:
                    reply = once(member)
                except ServerError as error:
                    tries.failed(member, error, final=False)
                else:
                    self._answered(member)
                    return reply

    def _choose(self, audio: bool, without: set[Member]) -> Member | None:
        """The server with the fewest requests, and one more of them; None where all were tried.

        Those that are left out come last, the one that may be tried again soonest first; one whose time has
        come is tried with a single request.
        """
        with self._lock:
            able = [member for member in self.members if member not in without]
            if audio:
                able = [member for member in able if member.backend.hears] or able
            if not able:
                return None
            now = time.monotonic()

            def cost(member: Member) -> tuple[float, ...]:
                is_out = bool(member.failures) and (now < member.out_until or member.running > 0)
                return is_out, member.out_until if is_out else 0.0, member.running, member.used

            chosen = min(able, key=cost)
            chosen.running += 1
            chosen.used = next(self._numbers)
            return chosen

    def _leave(self, member: Member) -> None:
        with self._lock:
            member.running -= 1

    def _answered(self, member: Member) -> None:
        with self._lock:
            member.failures, member.problem, member.out_until = 0, "", 0.0

    def _failed(self, member: Member, error: MossAudioError) -> None:
        with self._lock:
            now = time.monotonic()
            # Requests that were under way together fail together; that is one failure.
            if now >= member.out_until:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(member.failures, 10))
                member.failures += 1
                member.out_until = now + pause
            member.problem = str(error)


class _Tries:
    """The servers that one request was given to."""

    def __init__(self, pool: ModelPool, audio: bool, cancel: threading.Event | None) -> None:
        self._pool = pool
        self._audio = audio
        self._cancel = cancel
        self._tried: set[Member] = set()
        self._errors: list[MossAudioError] = []
        self._round = 1

    @contextmanager
    def member(self) -> Iterator[Member]:
        """The server to try next, which counts as busier meanwhile.

        Raises:
            ServerError: None can be used.
        """
        member = self._pool._choose(self._audio, self._tried)
        if member is None:
            if not self._goes_on():
                raise _none_left(self._errors)
            self._wait()
            self._tried.clear()
            self._errors.clear()
            self._round += 1
            member = self._pool._choose(self._audio, self._tried)
            assert member is not None
        try:
            yield member
        finally:
            self._pool._leave(member)

    def failed(self, member: Member, error: ServerError, final: bool) -> None:
        """Leave a server out that failed.

        Args:
            member: Which.
            error: What it failed with.
            final: Whether the request must not be given to another one.

        Raises:
            ServerError: The error, where no other server would do better.
        """
        if error.trouble in LEAVES_OUT:
            self._pool._failed(member, error)
        elif error.trouble != "deaf":
            raise error
        if final:
            raise error
        self._tried.add(member)
        self._errors.append(error)

    def _goes_on(self) -> bool:
        is_cancelled = self._cancel is not None and self._cancel.is_set()
        passes = any(isinstance(error, ServerError) and error.trouble in PASSES for error in self._errors)
        return self._round < ROUNDS and passes and not is_cancelled and not self._pool._closed

    def _wait(self) -> None:
        seconds = ROUND_SECONDS * 2 ** (self._round - 1) * random.uniform(0.75, 1.0)
        if self._cancel is None:
            time.sleep(seconds)
        else:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not self._cancel.is_set():
                time.sleep(min(0.05, seconds))


def _side_by_side(
    ask: Callable[[Member], Served | MossAudioError], members: Sequence[Member]
) -> list[Served | MossAudioError]:
    """What servers say; one that takes long is not waited for, also when the program ends."""
    answers: list[Served | MossAudioError] = [
        ServerError(
            f"The server at {member.host} did not say within {CONTACT_SECONDS:.0f} s what it serves.", "slow"
        )
        for member in members
    ]

    def note(at: int, member: Member) -> None:
        answers[at] = ask(member)

    threads = [
        threading.Thread(target=note, args=(at, member), name="asking-servers", daemon=True)
        for at, member in enumerate(members)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + CONTACT_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(answers)


class _Either(threading.Event):
    """Set where it was set itself, or another event was."""

    def __init__(self, other: threading.Event | None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or (self._other is not None and self._other.is_set())


def _none_left(errors: Sequence[MossAudioError]) -> MossAudioError:
    """The error where no server could be used: the one's, or all of them in a row."""
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    servers = [error for error in errors if isinstance(error, ServerError)]
    # One that may pass, or one that hears nothing, says less than one that is to be set right.
    trouble = next((error.trouble for error in servers if error.trouble in PASSES), None)
    trouble = trouble or (servers[0].trouble if servers else "failed")
    told = " ".join(str(error) for error in errors)
    return ServerError(f"None of the {len(errors)} servers can be used. {told}", trouble)
