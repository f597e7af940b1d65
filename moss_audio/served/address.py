"""Where a server is."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from moss_audio.errors import ServerError

_ENDS = ("/chat/completions", "/models")


@dataclass(frozen=True)
class Address:
    """A server's address.

    Attributes:
        base: What paths are appended to, e.g. ``http://gpu-box:8000/v1``.
        host: What people are shown, e.g. ``gpu-box:8000``.
        near: Whether it is this machine or one with a private address; no proxy stands before those.
    """

    base: str
    host: str
    near: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an address as people write it; one without a path gets ``/v1``.

        Raises:
            ServerError: It is none.
        """
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ServerError(
                "The server's address cannot be read; write it as http://host:8000/v1.", "address"
            ) from error
        if parts.scheme not in ("http", "https") or not host:
            raise ServerError(
                "A server's address begins with http:// or https://, as in http://host:8000/v1.", "address"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ServerError(
                f"The address of {host} holds more than host and path; give an API key apart from it.",
                "address",
            )
        path = parts.path.rstrip("/")
        for end in _ENDS:
            path = path.removesuffix(end)
        shown = f"[{host}]" if ":" in host else host
        shown += f":{port}" if port else ""
        return cls(f"{parts.scheme}://{shown}{path or '/v1'}", shown, _is_near(host))


def _is_near(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_private
    except ValueError:
        return "." not in host
