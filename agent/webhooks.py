"""Telling another program that a recording is ready or failed: signed messages that are tried again.

What is to be told is stored first, so that it outlives the process, and goes with the recording when that is
removed. Messages and signatures follow https://www.standardwebhooks.com (``webhook-id``,
``webhook-timestamp``, ``webhook-signature``: HMAC-SHA256 over ``id.timestamp.body``).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import func, select, update

from agent.settings import Settings
from index.notes import describe, told_coverage
from index.recording_errors import MossAgentError
from index.records import Recording
from index.store.access import EVERYTHING, acting_as
from index.store.database import Database, RecordingRow, WebhookDeliveryRow

BACK_OFF = (5.0, 30.0, 120.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)
"""Seconds from each failed attempt to the next; after as many failures and one more it is given up."""
PATIENCE = 10.0
"""Seconds that an address may take to answer, from the first try to connect."""
CONNECT = 5.0
"""Seconds of these that it may take to connect; where it does not, the host's next address is tried."""
MOST_ADDRESSES = 4
"""Addresses of a host that are tried in one attempt, which must end before its lease does."""
LEASE = 60.0
"""Seconds after which another process may try what this one was about to try when it was killed."""
LOOK_AGAIN = 60.0
"""Seconds between two looks for what other processes have left."""
SHORTEST_SECRET = 16

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_log = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotDelivered(Exception):
    """An attempt failed; the text is one sentence.

    Attributes:
        away: Nothing was answered at all, so that other messages would fare no better now.
    """

    def __init__(self, sentence: str, away: bool = True) -> None:
        super().__init__(sentence)
        self.away = away


@dataclass(frozen=True)
class _Due:
    """A message whose turn it is; ``attempts`` counts this one."""

    id: str
    body: str
    attempts: int


class Webhooks:
    """What is told to the webhook of the settings; without one, nothing.

    Args:
        settings: Its address, its secret, and whether it may be on a private network.
        database: Where messages wait.

    Raises:
        MossAgentError: The address is none that can be used, or the secret is missing or too short.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        self._private = settings.webhook_private
        self._links = settings.page_url.rstrip("/")
        self._url = _checked(settings.webhook_url) if settings.webhook_url else None
        self._key = b""
        if self._url is not None:
            self._key = _key(settings.webhook_secret.get_secret_value() if settings.webhook_secret else "")
            literal = _literal(self._url.hostname or "")
            if literal is not None:
                self._allow([literal])
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where messages go, without what may be secret in it; empty where they go nowhere."""
        return f"{self._url.scheme}://{self._url.netloc}" if self._url else ""

    def ready(self, recording: Recording) -> None:
        """Tell that a recording is ready."""
        data = {
            "id": recording.id,
            "title": recording.title,
            "duration": round(recording.duration, 3),
            "language": recording.language,
            "coverage": told_coverage(recording.coverage, recording.problems),
            "notes": [describe(note) for note in recording.problems],
            "speakers": list(recording.speakers),
            "link": f"{self._links}/?recording={recording.id}",
        }
        self._tell("recording.ready", recording.id, data)

    def failed(self, recording: str | None, title: str, error: str) -> None:
        """Tell that a file could not be taken in, and why, in one sentence."""
        self._tell("recording.failed", recording, {"id": recording, "title": title, "error": error})

    def _tell(self, kind: str, recording: str | None, data: dict[str, Any]) -> None:
        """Store a message; where that fails, what it is about must not fail too."""
        if self._url is None:
            return
        try:
            self._store(kind, recording, data)
        except Exception as error:
            # A database that is locked for long, for one.
            _log.warning("the webhook will not be told: %s", error)
        self._wake.set()

    def _store(self, kind: str, recording: str | None, data: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        body = json.dumps({"type": kind, "timestamp": now, "data": data}, ensure_ascii=False)
        with self.database.transaction() as session:
            known = recording if recording and session.get(RecordingRow, recording) else None
            row = WebhookDeliveryRow(
                id=f"msg_{uuid.uuid4().hex}", recording_id=known, body=body, next_at=time.time()
            )
            session.add(row)

    def reach(self) -> None:
        """Connect to where messages go, and send nothing.

        Raises:
            NotDelivered: It cannot be reached, or is not allowed.
        """
        if self._url is None:
            return
        host = self._url.hostname or ""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        for address in self._resolve(host, port):
            with suppress(OSError):
                socket.create_connection((str(address), port), timeout=PATIENCE).close()
                return
        raise NotDelivered(f"The webhook at {self.address} cannot be reached.")

    # Delivering

    def deliver(self) -> list[str]:
        """Send everything that is due now, once, until nobody answers; returns why what failed did.

        What becomes due again meanwhile, and what is left when nobody answered, waits for the next call.
        """
        problems: dict[str, None] = {}
        began = time.time()
        # Whoever's recordings they tell of: they are the server's own messages.
        with acting_as(EVERYTHING):
            while (due := self._take(began)) is not None:
                try:
                    self._send(due)
                except NotDelivered as error:
                    problems[self._not_delivered(due, str(error))] = None
                    if error.away:
                        break
                else:
                    self._delete(due.id)
        return list(problems)

    def waiting(self) -> tuple[int, str]:
        """How many messages wait, and why the one that failed last did; empty if none failed."""
        with acting_as(EVERYTHING), self.database.transaction() as session:
            count = session.scalar(select(func.count()).select_from(WebhookDeliveryRow)) or 0
            query = select(WebhookDeliveryRow.problem).where(WebhookDeliveryRow.problem != "")
            last = session.scalar(query.order_by(WebhookDeliveryRow.next_at.desc()).limit(1))
        return count, last or ""

    def start(self) -> None:
        """Deliver in a thread from now on, also what an earlier run has left."""
        if self._url is not None and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="webhooks", daemon=True)
            self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """End the thread; what waits is sent by the next process."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                for problem in self.deliver():
                    _log.warning("%s", problem)
                pause = self._pause()
            except Exception as error:
                # A full disk, for one: the messages stay where they are.
                _log.warning("webhooks wait: %s", error)
                pause = LOOK_AGAIN
            self._wake.wait(pause)

    def _pause(self) -> float:
        """Seconds until something is due, or to look again."""
        with acting_as(EVERYTHING), self.database.transaction() as session:
            soonest = session.scalar(select(func.min(WebhookDeliveryRow.next_at)))
        return LOOK_AGAIN if soonest is None else min(LOOK_AGAIN, max(0.05, soonest - time.time()))

    def _take(self, began: float) -> _Due | None:
        """The message that has been due for longest at a time; for a while no other process takes it."""
        if self._url is None or self._closing or self.database.read_only is not None:
            return None
        row_ = WebhookDeliveryRow
        while True:
            with self.database.transaction() as session:
                query = select(row_).where(row_.next_at <= began).order_by(row_.next_at).limit(1)
                row = session.scalar(query)
                if row is None:
                    return None
                mine = (
                    update(row_)
                    .where(row_.id == row.id, row_.attempts == row.attempts)
                    .values(attempts=row.attempts + 1, next_at=time.time() + LEASE)
                )
                due = _Due(row.id, row.body, row.attempts + 1)
                taken = session.execute(mine).rowcount  # type: ignore[attr-defined]
            if taken:
                return due

    def _not_delivered(self, due: _Due, problem: str) -> str:
        """Note a failed attempt, and when the next one is; returns the sentence about it."""
        if due.attempts > len(BACK_OFF):
            self._delete(due.id)
            sentence = f"{problem} It was tried {due.attempts} times and is given up."
        else:
            wait = BACK_OFF[due.attempts - 1]
            with self.database.transaction() as session:
                values = {"next_at": time.time() + wait, "problem": problem}
                query = update(WebhookDeliveryRow).where(WebhookDeliveryRow.id == due.id)
                session.execute(query.values(values))
            sentence = f"{problem} It is tried again while moss-agent runs."
        return sentence

    def _delete(self, message: str) -> None:
        with self.database.transaction() as session:
            if (row := session.get(WebhookDeliveryRow, message)) is not None:
                session.delete(row)

    # One attempt

    def _send(self, due: _Due) -> None:
        """Raises ``NotDelivered``."""
        import httpx2

        assert self._url is not None
        host = self._url.hostname or ""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        body = due.body.encode()
        headers = {
            "Host": self._url.netloc,
            "Content-Type": "application/json",
            "User-Agent": "moss-agent",
            **signed(self._key, due.id, int(time.time()), body),
        }
        # The address that was checked is the one that is connected to: a name may lead elsewhere by then.
        addresses = self._resolve(host, port)
        path = f"{self._url.path or '/'}{'?' if self._url.query else ''}{self._url.query}"
        for last, address in zip([*[False] * (len(addresses) - 1), True], addresses, strict=True):
            shown = f"[{address}]" if address.version == 6 else str(address)
            url = f"{self._url.scheme}://{shown}:{port}{path}"
            try:
                # In a thread of its own: whoever calls may run an event loop.
                with ThreadPoolExecutor(1) as alone:
                    status = alone.submit(asyncio.run, self._post(url, body, headers, host)).result()
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if last:
                    raise NotDelivered(f"The webhook at {self.address} cannot be reached.") from error
                continue
            except (httpx2.TimeoutException, TimeoutError) as error:
                raise NotDelivered(
                    f"The webhook at {self.address} did not answer within {PATIENCE:.0f} seconds."
                ) from error
            except httpx2.HTTPError as error:
                raise NotDelivered(f"The webhook at {self.address} broke off without an answer.") from error
            if not 200 <= status < 300:
                raise NotDelivered(
                    f"The webhook at {self.address} answered with status {status}.", away=False
                )
            return

    async def _post(self, url: str, body: bytes, headers: dict[str, str], host: str) -> int:
        """The status that is answered; what else is answered is not read.

        Raises:
            TimeoutError: It took too long in all: one that answers letter by letter would hold others up.
        """
        import httpx2

        named = {"sni_hostname": host}
        verify = ssl.create_default_context() if url.startswith("https:") else False
        timeout = httpx2.Timeout(PATIENCE, connect=CONNECT)
        async with (
            asyncio.timeout(PATIENCE),
            httpx2.AsyncClient(
                trust_env=False, follow_redirects=False, timeout=timeout, verify=verify
            ) as client,
            client.stream("POST", url, content=body, headers=headers, extensions=named) as response,
        ):
            return response.status_code

    def _resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of a host, all of which may be used.

        Raises:
            NotDelivered: There are none, or one of them is on a private network.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NotDelivered(f"The webhook's host {host} cannot be found.") from error
        addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        try:
            self._allow(addresses)
        except MossAgentError as error:
            raise NotDelivered(str(error)) from error
        return list(dict.fromkeys(addresses))[:MOST_ADDRESSES]

    def _allow(self, addresses: Sequence[Address]) -> None:
        if self._private:
            return
        for address in addresses:
            if not is_public(address):
                raise MossAgentError(
                    f"MOSS_AGENT_WEBHOOK_URL leads to {address}, which is on a private network; "
                    "set MOSS_AGENT_WEBHOOK_PRIVATE=true if that is meant."
                )


def signed(key: bytes, message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove who sent a message and when.

    Args:
        key: What both sides know.
        message: The message's id, the same at each attempt.
        timestamp: Of this attempt, seconds since 1970.
        body: As it is sent.
    """
    content = f"{message}.{timestamp}.".encode() + body
    digest = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{digest}",
    }


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet at large, also where it wraps another."""
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inside is None and address in _NAT64:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(inside)
    return address.is_global and not address.is_multicast


def _checked(url: str) -> SplitResult:
    """The parts of an address that messages can be sent to."""
    try:
        parts = urlsplit(url.strip())
        # As it is sent and looked up: letters beyond ASCII have a spelling of their own in names of hosts.
        parts = parts._replace(netloc=parts.netloc.encode("idna").decode())
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or "@" in parts.netloc or parts.fragment:
        raise MossAgentError("MOSS_AGENT_WEBHOOK_URL must look like https://host/path.")
    return parts


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return ipaddress.ip_address("127.0.0.1") if host == "localhost" else None


def _key(secret: str) -> bytes:
    """The bytes of a secret; one that begins with ``whsec_`` is base64, as Standard Webhooks has it."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
    if len(key) < SHORTEST_SECRET:
        raise MossAgentError(
            f"MOSS_AGENT_WEBHOOK_SECRET must have at least {SHORTEST_SECRET} characters, so that nobody else "
            "can sign messages."
        )
    return key
