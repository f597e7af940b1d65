"""Signing in with a provider, by OpenID Connect: authorisation code with PKCE, state and nonce.

OpenID Connect Core 1.0 and Discovery 1.0; RFC 7636 (PKCE). The provider's address is the server owner's;
nothing a browser brings is believed before its signature, issuer, audience, nonce and time are checked.
Somebody is known by issuer and subject, never by an e-mail address alone: that can be another's elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from index.recording_errors import Forbidden, MossAgentError
from web.guard import is_loopback

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

    from agent.settings import Settings

WELL_KNOWN = "/.well-known/openid-configuration"
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""Signatures with a public key; with a shared secret, or none, anybody who knows it could sign."""

DISCOVERED_SECONDS = 3600.0
WAIT_SECONDS = 10.0
LEEWAY_SECONDS = 60
"""How much two clocks may differ."""


class Provider:
    """The provider of the settings.

    Args:
        settings: Its address, our id and secret there, and whose e-mail addresses are let in.

    Raises:
        MossAgentError: The settings are not whole.
    """

    def __init__(self, settings: Settings) -> None:
        address = (settings.oidc_url or "").removesuffix(WELL_KNOWN).rstrip("/")
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or not settings.oidc_client:
            raise MossAgentError(
                "Signing in with a provider needs MOSS_AGENT_OIDC_URL, such as https://login.example, and "
                "MOSS_AGENT_OIDC_CLIENT."
            )
        if find_spec("joserfc") is None:
            raise MossAgentError("Signing in with a provider needs joserfc: pip install 'moss-agent[scale]'.")
        self._issuer = address
        self._client = settings.oidc_client
        self._secret = settings.oidc_secret.get_secret_value() if settings.oidc_secret else ""
        self._domains = {part.strip().lower() for part in settings.oidc_domains.split(",") if part.strip()}
        self.back = f"{settings.page_url.rstrip('/')}/oidc/back"
        self.name = parts.hostname
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Any]] = (0.0, {})
        self._keys: KeySet | None = None

    def start(self, next_: str) -> tuple[str, str]:
        """Where to send a browser, and what it is to keep meanwhile.

        Args:
            next_: Where it goes at the end.

        Raises:
            MossAgentError: The provider cannot be reached.
        """
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        digest = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": self.back,
            "scope": "openid email profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        kept = json.dumps({"state": state, "nonce": nonce, "verifier": verifier, "next": next_})
        address = self._discovered()["authorization_endpoint"]
        joined = "&" if "?" in address else "?"
        return f"{address}{joined}{urlencode(asked)}", base64.urlsafe_b64encode(kept.encode()).decode()

    def finish(self, kept: str, state: str, code: str) -> tuple[str, str, str, str, str]:
        """Whom the provider vouches for: issuer, subject, name and e-mail; and where the browser goes on.

        Args:
            kept: What the browser was given at the start.
            state, code: What it brings from the provider.

        Raises:
            Forbidden: The provider does not vouch for them, or not as it must.
            MossAgentError: The provider cannot be reached.
        """
        try:
            begun = json.loads(base64.urlsafe_b64decode(kept.encode()))
            is_ours = hmac.compare_digest(str(begun["state"]), state)
            nonce, verifier, next_ = str(begun["nonce"]), str(begun["verifier"]), str(begun["next"])
        except (ValueError, KeyError, TypeError):
            is_ours = False
        if not is_ours or not code:
            raise Forbidden("Signing in was not begun here, or took too long; try again.")
        answer = self._exchanged(code, verifier)
        claims = self._verified(str(answer.get("id_token") or ""), nonce)
        if "email" not in claims and "access_token" in answer:
            claims = self._completed(claims, str(answer["access_token"]))
        email = str(claims.get("email") or "").strip()
        if not email or claims.get("email_verified") is not True:
            raise Forbidden(f"{self.name} did not confirm an e-mail address.")
        if self._domains and email.rpartition("@")[2].lower() not in self._domains:
            raise Forbidden("Addresses of this domain are not let in.")
        name = str(claims.get("preferred_username") or email)
        return self._issuer, str(claims["sub"]), name, email, next_

    def _exchanged(self, code: str, verifier: str) -> dict[str, Any]:
        """What the provider gives for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.back,
            "client_id": self._client,
            "code_verifier": verifier,
        }
        if self._secret:
            form["client_secret"] = self._secret
        return self._asked("POST", self._discovered()["token_endpoint"], data=form)

    def _verified(self, token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token that is meant for us, now.

        Raises:
            Forbidden: It is none.
        """
        from joserfc import jwt
        from joserfc.errors import JoseError

        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._discovered()["issuer"]},
            aud={"essential": True, "value": self._client},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            try:
                decoded = jwt.decode(token, self._signers(), algorithms=ALGORITHMS)
            except (JoseError, ValueError):
                # Its keys may have changed since.
                decoded = jwt.decode(token, self._signers(anew=True), algorithms=ALGORITHMS)
            rules.validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise Forbidden("What the provider sent is not valid; try again.") from error
        claims: dict[str, Any] = dict(decoded.claims)
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", self._client) != self._client or (len(audiences) > 1 and "azp" not in claims):
            raise Forbidden("What the provider sent is meant for another program.")
        return claims

    def _completed(self, claims: dict[str, Any], token: str) -> dict[str, Any]:
        """The claims with those that the provider tells only where it is asked for them."""
        address = self._discovered().get("userinfo_endpoint")
        if not address:
            return claims
        more = self._asked("GET", address, headers={"Authorization": f"Bearer {token}"})
        if more.get("sub") != claims["sub"]:
            raise Forbidden("What the provider sent is not valid; try again.")
        return {**more, **claims}

    def _signers(self, anew: bool = False) -> KeySet:
        from joserfc.jwk import KeySet

        with self._lock:
            keys = self._keys
        if keys is None or anew:
            keys = KeySet.import_key_set(self._asked("GET", self._discovered()["jwks_uri"]))  # type: ignore[arg-type]
            with self._lock:
                self._keys = keys
        return keys

    def _discovered(self) -> dict[str, Any]:
        """What the provider says of itself.

        Raises:
            MossAgentError: It says something that cannot be used.
        """
        with self._lock:
            at, known = self._known
        if known and time.monotonic() - at < DISCOVERED_SECONDS:
            return known
        found = self._asked("GET", self._issuer + WELL_KNOWN)
        wanted = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
        if any(not isinstance(found.get(name), str) for name in wanted) or any(
            not _is_safe(found[name]) for name in wanted[1:]
        ):
            raise MossAgentError(f"{self.name} does not say how people sign in there.")
        if found["issuer"].rstrip("/") != self._issuer:
            raise MossAgentError(
                f"{self.name} calls itself {found['issuer'][:100]}, not MOSS_AGENT_OIDC_URL."
            )
        with self._lock:
            self._known = time.monotonic(), found
        return found

    def _asked(self, method: str, address: str, **more: Any) -> dict[str, Any]:
        import httpx2

        try:
            with httpx2.Client(timeout=WAIT_SECONDS) as client:
                answer = client.request(method, address, **more)
                document = answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise MossAgentError(f"{self.name} cannot be reached; try again later.") from error
        if answer.is_error or not isinstance(document, dict):
            raise Forbidden(f"{self.name} refused; try again.")
        return document


def _is_safe(address: str) -> bool:
    """Whether nobody on the way can read or change what goes to an address."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
