"""All settings, in one class, read once at the edge (command line or page) and handed down.

Each is an environment variable ``MOSS_AGENT_<NAME>``; ``docs/settings.md`` lists them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from index.records import Template


class Settings(BaseSettings):
    """Where things are kept and which engines are used."""

    model_config = SettingsConfigDict(
        env_prefix="MOSS_AGENT_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    home: Path = Field(default_factory=lambda: user_data_path("moss-agent"))
    """Folder of the database, audio copies, vectors and conversations."""
    database: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MOSS_AGENT_DATABASE", "MOSS_AGENT_DATABASE_URL"),
    )
    """URL of a PostgreSQL database, or of another SQLite one; by default SQLite in the home folder."""
    vectors: Annotated[
        str | None, Field(validation_alias=AliasChoices("MOSS_AGENT_VECTORS", "MOSS_AGENT_VECTORS_URL"))
    ] = None
    """URL of a Chroma server (``http://host:port``); by default Chroma runs embedded in the home folder."""
    vectors_token: SecretStr | None = None
    """What the server of ``vectors``, or the proxy before it, asks for."""
    audio: str | None = None
    """Where audio copies are kept: a folder, or a URL as fsspec reads it; by default in the home folder."""
    audio_cache_mb: Annotated[int, Field(gt=0)] = 10_240
    """Size in MiB that audio copies in the home folder may have where ``audio`` is a URL."""
    model: str = "auto"
    """``auto``, a MOSS-Audio on the Hugging Face hub, a folder with one, or URLs of servers."""
    api_key: SecretStr | None = None
    """What the server of ``model`` asks for."""
    served_model: str | None = None
    """Which of the server's models, where it has several."""
    answer_tokens: Annotated[int | None, Field(ge=16)] = None
    """Tokens an answer may have, thoughts included; by default 2,048, or 4,096 where the model thinks."""
    thinking_processor: str | None = None
    """For SGLang: its serialised logit processor that bounds thoughts, or a file that holds it."""
    ray: str | None = None
    """Ray cluster that does the work: ``local``, ``auto``, ``host:6379`` or ``ray://host:10001``."""
    transcriber: str = "base"
    """``base`` or ``tiny.en`` (packaged), any faster-whisper model name, or a folder with one."""
    weights: Path | None = None
    """Folder of recognisers' weights, put together already; looked at before the home folder's ``models``."""
    embedder: str = "packaged"
    """``packaged`` (all-MiniLM-L6-v2), any sentence-transformers name, or a folder with one."""
    language: str | None = None
    """The one spoken language, as an ISO 639-1 code; by default it is found for each stretch of speech."""
    glossary: Path | None = None
    """File of words and phrases that Whisper is to spell right, one a line; none by default."""
    sounds: Literal["auto", "on", "off"] = "auto"
    """Whether MOSS-Audio also lists sounds and music of each recording; by default on a GPU or a server."""
    speaker_labels: Literal["auto", "on", "off"] = "auto"
    """Whether MOSS-Audio is asked who speaks, beside the voices; by default on a GPU or a server."""
    voices: Literal["on", "off", "ask"] = "ask"
    """Whether speakers who are named are known again by their voice; ``ask`` asks once."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads for recognition; 0 takes all cores."""
    max_upload_mb: Annotated[int, Field(gt=0)] = 4096
    """Largest file the page accepts, in MiB."""
    webhook_url: str | None = None
    """Address that is told when a recording is ready or failed; none by default."""
    webhook_secret: SecretStr | None = None
    """What messages to ``webhook_url`` are signed with, at least 16 characters."""
    webhook_private: bool = False
    """Whether ``webhook_url`` may lead to this machine or a private network."""
    accounts: Literal["auto", "on", "optional"] = "auto"
    """Whether people sign in: ``auto`` once there is an account, and wherever other machines get in."""
    oidc_url: str | None = None
    """OpenID Connect: address of the provider, or of its discovery document; none by default."""
    oidc_client: str = ""
    """The id that the provider gave to this server."""
    oidc_secret: SecretStr | None = None
    """The secret that goes with it; none for a public client."""
    oidc_domains: str = ""
    """Domains of e-mail addresses that are let in, separated by commas; empty for all of the provider's."""
    trusted_header: str | None = None
    """Header in which a proxy says who is signed in; none by default."""
    trusted_proxies: str = ""
    """Addresses or networks of these proxies, separated by commas; others' headers are ignored."""
    keep_days: Annotated[int | None, Field(ge=1)] = None
    """Days after which recordings are deleted; by default they stay."""
    page_url: str = "http://127.0.0.1:7860"
    """Where the page is, for links to moments: in synced notes, and in answers of the API and of MCP."""
    summary_template: Template = "meeting"
    """Template of a summary when none is named."""

    @field_validator("vectors", "audio")
    @classmethod
    def _none_if_empty(cls, value: str | None) -> str | None:
        return (value or "").strip() or None

    @field_validator("model")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        return value.strip() or "auto"
