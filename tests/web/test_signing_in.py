"""Signing in elsewhere: with a provider by OpenID Connect, and by a header of a trusted proxy."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.testclient import TestClient

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.recording_errors import MossAgentError
from index.store.access import acting_as
from tests.support.indexed import sentences, store
from web.account_pages import add_account_routes
from web.accounts import COOKIE, SignedIn, Visitors, safe_next
from web.app import add_routes
from web.oidc import Provider
from web.server import needs_accounts

KEY = RSAKey.generate_key(2048, {"kid": "one"})
OTHER = RSAKey.generate_key(2048, {"kid": "one"})


class Login(ThreadingHTTPServer):
    """A provider: discovery, keys, codes for tokens. ``claims`` and ``key`` are what it signs with."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.issuer = f"http://127.0.0.1:{self.server_address[1]}"
        self.says: dict[str, Any] = {}
        self.key, self.algorithm = KEY, "RS256"
        self.challenge = self.nonce = ""
        self.extra: dict[str, Any] = {}

    def token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": "moss", "sub": "42", "iat": now, "exp": now + 60, "nonce": self.nonce,
            "email": "anna@example.org", "email_verified": True, **self.says,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.algorithm == "none":
            parts = ({"alg": "none"}, claims)
            encoded = [
                base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
            ]
            return f"{'.'.join(encoded)}."
        return jwt.encode({"alg": self.algorithm, "kid": "one"}, claims, self.key)


class Answering(BaseHTTPRequestHandler):
    server: Login

    def do_GET(self) -> None:
        issuer = self.server.issuer
        documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {
                "issuer": issuer, "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token", "jwks_uri": f"{issuer}/keys", **self.server.extra,
            },
            "/keys": {"keys": [KEY.as_dict(private=False)]},
        }  # fmt: skip
        self._send(documents[self.path])

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        is_proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == self.server.challenge
        is_ours = form["code"] == ["the-code"] and form["client_secret"] == ["hush"]
        self._send({"id_token": self.server.token()} if is_proven and is_ours else {"error": "invalid_grant"})

    def _send(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(400 if "error" in document else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[Login]:
    server = Login()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def login(provider: Login) -> Login:
    provider.says, provider.extra, provider.key, provider.algorithm = {}, {}, KEY, "RS256"
    return provider


def opened(home: Path, **settings: Any) -> tuple[Workspace, TestClient]:
    workspace = open_workspace(Settings(home=home, **settings))
    workspace.people._given = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    workspace.require_people()
    app = FastAPI()
    add_routes(app, workspace)
    visitors = Visitors(workspace)
    provider = Provider(workspace.settings) if workspace.settings.oidc_url else None
    add_account_routes(app, workspace, visitors, provider)
    app.add_middleware(SignedIn, visitors=visitors)
    return workspace, TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False)


@pytest.fixture
def house(home: Path, login: Login) -> Iterator[Any]:
    workspace, client = opened(
        home,
        oidc_url=login.issuer,
        oidc_client="moss",
        oidc_secret="hush",
        oidc_domains="example.org, example.net",
    )
    workspace.people.add("owner", "a long password")
    yield SimpleNamespace(workspace=workspace, client=client, login=login)
    workspace.close()


def others(house: Any) -> list[Any]:
    """All accounts but the owner's."""
    return [each for each in house.workspace.people.accounts() if each.person.name != "owner"]


def come(house: Any, next_: str = "/account", **changed: str) -> Any:
    """Go to the provider and come back."""
    started = house.client.get("/oidc/start", params={"next": next_})
    asked = {
        name: values[0] for name, values in parse_qs(urlsplit(started.headers["location"]).query).items()
    }
    assert asked["client_id"] == "moss" and asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == "http://127.0.0.1:7860/oidc/back" and asked["response_type"] == "code"
    house.login.challenge, house.login.nonce = asked["code_challenge"], asked["nonce"]
    return house.client.get("/oidc/back", params={"state": asked["state"], "code": "the-code", **changed})


def test_whom_a_provider_knows_gets_an_account_and_keeps_it(house: Any):
    back = come(house)
    assert back.status_code == 303 and back.headers["location"] == "/account"
    assert house.client.get("/account").status_code == 200
    (account,) = others(house)
    assert account.email == "anna@example.org" and not account.has_password
    house.login.says = {"email": "anna.new@example.net"}
    house.client.cookies.clear()
    assert come(house).status_code == 303
    (account,) = others(house)
    assert account.email == "anna.new@example.net"


def test_the_first_account_is_nobodys_who_comes_from_a_provider(home: Path, login: Login):
    workspace, client = opened(home, oidc_url=login.issuer, oidc_client="moss", oidc_secret="hush")
    with pytest.raises(MossAgentError, match="people add"):
        needs_accounts(workspace, "0.0.0.0")
    assert come(SimpleNamespace(client=client, login=login)).status_code == 403
    assert workspace.people.count() == 0 and COOKIE not in client.cookies
    workspace.close()


def test_a_link_of_a_page_behind_https_begins_with_it(home: Path):
    workspace, client = opened(home, page_url="https://moss.example")
    anna = workspace.people.add("anna", "a long password")
    with acting_as(anna):
        recording = store(workspace.library, sentences("The ferry leaves at ten."), "Ferry talk")
    client.cookies.set(COOKIE, workspace.people.begin(anna))
    for host, begins in (
        ("moss.example", "https://moss.example/s/"),
        ("127.0.0.1:7860", "http://127.0.0.1:7860/s/"),
    ):
        page = client.post(f"/share/{recording}", data={"action": "link"}, headers={"Host": host})
        assert page.status_code == 200 and begins in page.text
    workspace.close()


def test_an_address_that_is_none_leads_to_the_page():
    assert safe_next("//[") == safe_next("http://[") == "/"


def test_an_account_of_the_same_address_is_not_taken_over(house: Any):
    own = house.workspace.people.add("anna", "a long password", "anna@example.org")
    assert come(house).status_code == 303
    accounts = {each.person.name: each.person for each in others(house)}
    assert set(accounts) == {"anna", "anna-2"} and accounts["anna"] == own
    assert house.workspace.people.signed_in(house.client.cookies[COOKIE]) == accounts["anna-2"]


@pytest.mark.parametrize(
    "says",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": ["moss", "another"]},
        {"azp": "another"},
        {"nonce": "old"},
        {"nonce": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"sub": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"email": None},
        {"email": "anna@evil.example"},
        {"email": "anna@example.org@evil.example"},
    ],
)
def test_what_a_provider_says_otherwise_lets_nobody_in(house: Any, says: dict[str, Any]):
    house.login.says = says
    assert come(house).status_code == 403
    assert COOKIE not in house.client.cookies and others(house) == []


@pytest.mark.parametrize("forged", ["another key", "no signature", "shared secret"])
def test_what_others_sign_lets_nobody_in(house: Any, forged: str):
    if forged == "another key":
        house.login.key = OTHER
    elif forged == "no signature":
        house.login.algorithm = "none"
    else:
        from joserfc.jwk import OctKey

        house.login.key, house.login.algorithm = OctKey.import_key(b"hush" * 8), "HS256"
    assert come(house).status_code == 403
    assert others(house) == []


def test_coming_back_without_having_left_lets_nobody_in(house: Any):
    assert come(house, state="guess").status_code == 403
    assert come(house, code="").status_code == 403
    assert come(house, code="another").status_code == 403
    house.client.cookies.clear()
    assert house.client.get("/oidc/back", params={"state": "x", "code": "the-code"}).status_code == 403
    assert others(house) == []


def test_a_provider_leads_nowhere_else(house: Any):
    assert come(house, next_="https://evil.example").headers["location"] == "/"


def test_a_disabled_account_is_not_let_in_by_its_provider(house: Any):
    come(house)
    (account,) = others(house)
    house.workspace.people.add("admin", "a long password", is_admin=True)
    house.workspace.people.set_disabled(account.person.name, True)
    house.client.cookies.clear()
    assert come(house).status_code == 403 and COOKIE not in house.client.cookies


@pytest.mark.parametrize(
    "extra",
    [{"issuer": "https://evil.example"}, {"token_endpoint": "http://evil.example/token"}, {"jwks_uri": None}],
)
def test_a_provider_that_describes_itself_wrongly_is_not_asked(house: Any, extra: dict[str, Any]):
    house.login.extra = extra
    assert house.client.get("/oidc/start").status_code == 503


def test_a_provider_that_is_away_is_said_to_be(home: Path):
    workspace, client = opened(home, oidc_url="http://127.0.0.1:9", oidc_client="moss")
    answer = client.get("/oidc/start")
    assert answer.status_code == 503 and "127.0.0.1" in answer.text
    workspace.close()


# --- proxies ----------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(home: Path) -> Iterator[Any]:
    workspace, client = opened(home, trusted_header="Remote-User", trusted_proxies="10.0.0.2, 192.168.7.0/24")
    workspace.people.add("owner", "a long password")
    yield SimpleNamespace(workspace=workspace, client=client)
    workspace.close()


def asked(proxied: Any, address: str, *headers: tuple[str, str]) -> Any:
    client = TestClient(
        proxied.client.app, base_url="http://127.0.0.1:7860", client=(address, 1), follow_redirects=False
    )
    return client.get("/account", headers=list(headers))


def test_a_trusted_proxy_says_who_is_signed_in(proxied: Any):
    for address in ("10.0.0.2", "192.168.7.9", "::ffff:10.0.0.2"):
        assert asked(proxied, address, ("Remote-User", "anna")).status_code == 200
    assert [each.person.name for each in others(proxied)] == ["anna"]
    assert asked(proxied, "10.0.0.2").status_code == 401
    twice = ("Remote-User", "anna"), ("Remote-User", "admin")
    assert asked(proxied, "10.0.0.2", *twice).status_code == 401


@pytest.mark.parametrize("address", ["10.0.0.3", "127.0.0.1", "testclient", "2001:db8::1"])
def test_nobody_else_does_whatever_they_claim(proxied: Any, address: str):
    claims = [("Remote-User", "anna")]
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        claims.append((name, "for=10.0.0.2" if name == "Forwarded" else "10.0.0.2"))
    assert asked(proxied, address, *claims).status_code == 401
    assert others(proxied) == []


def test_the_name_of_an_account_made_here_is_not_taken_by_a_header(proxied: Any):
    own = proxied.workspace.people.add("anna", "a long password")
    assert asked(proxied, "10.0.0.2", ("Remote-User", "anna")).status_code == 200
    assert [each.person.name for each in others(proxied) if each.person != own] == ["anna-2"]


def test_a_browsers_address_is_what_the_last_trusted_proxy_says(proxied: Any):
    visitors = Visitors(proxied.workspace)

    def peer(address: str, forwarded: str, proto: str = "") -> Any:
        headers = [(b"x-forwarded-for", forwarded.encode()), (b"x-forwarded-proto", proto.encode())]
        return visitors.peer({"type": "http", "client": (address, 1), "scheme": "http", "headers": headers})

    assert peer("10.0.0.2", "1.1.1.1, 203.0.113.5").address == "203.0.113.5"
    assert peer("10.0.0.2", "1.1.1.1, 203.0.113.5, 192.168.7.3").address == "203.0.113.5"
    assert peer("203.0.113.9", "1.1.1.1").address == "203.0.113.9"
    assert peer("10.0.0.2", "1.1.1.1", "https").is_secure and not peer("203.0.113.9", "", "https").is_secure


def test_a_header_without_proxies_or_with_wrong_ones_is_refused_at_the_start(home: Path):
    for settings in ({"trusted_proxies": ""}, {"trusted_proxies": "my-proxy"}):
        workspace = open_workspace(Settings(home=home, trusted_header="Remote-User", **settings))
        with pytest.raises(MossAgentError):
            Visitors(workspace)
        workspace.close()


# --- when people sign in ----------------------------------------------------------------------------------


def test_people_sign_in_elsewhere_than_here_and_wherever_there_is_an_account(home: Path):
    workspace = open_workspace(Settings(home=home))
    assert needs_accounts(workspace, "127.0.0.1") is False
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        with pytest.raises(MossAgentError, match="people add"):
            needs_accounts(workspace, host)
    workspace.people._given = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    workspace.people.add("anna", "a long password")
    workspace.close()
    for setting in ("auto", "on", "optional"):
        workspace = open_workspace(Settings(home=home, accounts=setting))
        assert needs_accounts(workspace, "127.0.0.1") and needs_accounts(workspace, "0.0.0.0")
        workspace.close()


def test_a_container_without_accounts_is_reached_by_whom_its_port_is_published_to(home: Path):
    workspace = open_workspace(Settings(home=home, accounts="optional"))
    assert needs_accounts(workspace, "0.0.0.0") is False
    workspace.close()
    workspace = open_workspace(Settings(home=home, accounts="on"))
    with pytest.raises(MossAgentError, match="people add"):
        needs_accounts(workspace, "127.0.0.1")
    workspace.close()


def test_where_nobody_has_an_account_nothing_is_written_down(home: Path):
    workspace = open_workspace(Settings(home=home))
    recording = store(workspace.library, sentences("Hello."), "Talk")
    workspace.read(recording)
    workspace.rename(recording, "Other talk")
    assert workspace.people.log() == []
    with acting_as(workspace.actor):
        assert workspace.recordings()
    workspace.close()
