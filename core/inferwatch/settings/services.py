"""The sections about what is served: payload log, ingest, capture, access, exclusion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inferwatch.aliases import REQUEST_ALIASES, RESPONSE_ALIASES, Aliases
from inferwatch.events import ROLES
from inferwatch.exclusion import ComponentRule, HeaderRule, Rule
from inferwatch.origin import Origin
from inferwatch.redaction import Redaction
from inferwatch.settings.redaction import RedactSettings, redaction_of
from inferwatch.settings.section import Section
from inferwatch.wire.privacy import SECRET_HEADERS, is_secret

_MESH_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_TAKEN = ("api", "docs", "events", "healthz", "metrics", "models", "openapi.json", "readyz", "v1", "v2")
"""First segments of the paths that mean something else."""


class PayloadLogSettings(Section):
    """Where payloads are kept."""

    path: Path = Path("data/payloads")
    """The directory of the log; made when absent."""
    durability: Literal["process", "disk"] = "process"
    """What an accepted event survives: the death of the process, or a power loss too (an fsync a commit)."""
    segment_bytes: int = Field(67_108_864, ge=4096)
    """So many bytes of events are sealed into a Parquet file; default 64 MiB."""
    segment_minutes: float = Field(60.0, gt=0, le=525_600)
    """Events are sealed after so many minutes, few as they may be."""
    retention_days: float | None = Field(None, gt=0, le=36_500)
    """Payloads older than that are removed, counted back from the newest event of their model; kept where unset."""
    redact: tuple[RedactSettings, ...] = ()
    """What is taken out before anything is written: `headers.NAME`, a JSON path into bodies, as in
    `$.instances[*].ssn`, or a section. A body that a path cannot be applied to is withheld whole."""

    def redaction(self) -> Redaction:
        """Return the rules of `redact`. Raises `ValueError` for a file that holds no key."""
        return redaction_of(self.redact)


class AliasSettings(Section):
    """Event types of other senders that are payloads, each in place of the default ones. Other types are ignored."""

    request: tuple[str, ...] = REQUEST_ALIASES
    """Types that stand for a request."""
    response: tuple[str, ...] = RESPONSE_ALIASES
    """Types that stand for a response."""

    @field_validator("request", "response")
    @classmethod
    def _other_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        for kind in types:
            if not kind.strip() or kind in ROLES or kind.startswith("io.inferwatch."):
                raise PydanticCustomError("type", "{kind} is no event type of another sender", {"kind": repr(kind)})
        return types

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        if both := set(self.request) & set(self.response):
            raise PydanticCustomError("both", "{kind} stands for both", {"kind": repr(min(both))})
        return self

    def aliases(self) -> Aliases:
        """Return what reads them."""
        return Aliases(self.request, self.response)


class IngestSettings(Section):
    """What comes in."""

    max_body_bytes: int = Field(33_554_432, ge=1024)
    """Larger bodies are stored cut, bytes; default 32 MiB."""
    pair_timeout_s: float = Field(60.0, gt=0, le=86_400)
    """A response belongs to a request of its id whose event time is at most so many seconds away."""
    request_timeout_s: float = Field(60.0, gt=0, le=86_400)
    """A request that has not come whole after so many seconds is answered 408 and its connection closed, so that slow
    clients hold none for ever."""
    max_inflight_bytes: int = Field(268_435_456, ge=1_048_576)
    """Bytes that may wait for the log; beyond, events are refused and counted. Default 256 MiB."""
    type_aliases: AliasSettings = AliasSettings()
    modelmesh: Mapping[str, str] = {}
    """Paths that payloads of ModelMesh are sent to, each with the namespace of its models, as in `/mesh-b: team-b`;
    `/consumer/kserve/v2` always is one, with the namespace `default` unless it stands here."""

    @field_validator("modelmesh")
    @classmethod
    def _free_paths(cls, paths: Mapping[str, str]) -> Mapping[str, str]:
        for path, namespace in paths.items():
            if not _MESH_PATH.fullmatch(path) or path.split("/")[1] in _TAKEN:
                raise PydanticCustomError(
                    "path", "{path} cannot be a path for payloads, such as /consumer/kserve/v2", {"path": repr(path)}
                )
            if not namespace:
                raise PydanticCustomError("namespace", "{path} has no namespace", {"path": path})
        return paths


class AuthSettings(Section):
    """Who may ask, and where events are taken."""

    bearer_token_file: Path | None = None
    """A file with the token that everything that reads or explains asks for; open to everybody where unset."""
    ingest_path_prefix: str | None = Field(None, pattern=r"^/?[A-Za-z0-9._~-]+/?$", max_length=256)
    """A secret first segment of the path that events are sent to, as in `http://host/SECRET/`; none where unset."""

    origin_key_file: Path | None = None
    """A file with the key that signs the marks of explainers' own questions; then an unsigned mark excludes nothing."""

    def bearer_token(self) -> str | None:
        """Return the token, None where none is asked for. Raises `ValueError` for a file that holds none."""
        return None if self.bearer_token_file is None else _secret(self.bearer_token_file)

    def origin(self) -> Origin:
        """Return what marks explainers' questions and tells them. Raises `ValueError` for a file that holds no key."""
        return Origin(None if self.origin_key_file is None else _secret(self.origin_key_file).encode())


def _secret(path: Path) -> str:
    try:
        secret = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or 'no ASCII text'}") from error
    if not secret.isprintable() or not secret or " " in secret:
        raise ValueError(f"{path}: the file is to hold one token, without spaces")
    return secret


class ExplainSettings(Section):
    """The `:explain` service."""

    max_queue: int = Field(64, ge=1)
    """Requests that may wait; beyond, 429."""
    cache_bytes: int = Field(67_108_864, ge=0)
    """So many bytes of explanations are kept, as JSON, to answer the same question again; 0 keeps none. Default 64 MiB.
    A predictor that says another model version in its replies (V2) is asked again."""
    cache_seconds: float = Field(60.0, gt=0, le=86_400)
    """They are kept for so long: a model that was exchanged without saying so is explained as it was until then."""
    sink: str | None = Field(None, pattern=r"^(https?|kafka)://\S+$")
    """Where `inferwatch explain` sends the event of each explanation: an ingest, as in `http://inferwatch:8080/`. `up`
    writes them to its own log."""
    legacy_python: Path | None = None
    """The Python of an environment that holds alibi and AIX360; `make test-profiles` makes one in
    `.venvs/legacy-explain`."""


class ExcludeSettings(Section):
    """Traffic that is stored and not judged: by a request header, or by the component it went to."""

    header: str | None = Field(None, min_length=1)
    """A request header among the logged metadata, in any case."""
    equals: str | None = None
    """Its value; any value where unset."""
    component: str | None = Field(None, min_length=1)
    """A component of the InferenceService, such as `transformer`."""

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.header is None) == (self.component is None):
            raise PydanticCustomError("rule", "a rule has either `header` or `component`")
        if self.equals is not None and self.header is None:
            raise PydanticCustomError("rule", "`equals` is the value of a `header`")
        if self.header is not None and is_secret(self.header):
            raise PydanticCustomError(
                "secret",
                "{names} are never stored, so no rule can go by them",
                {"names": ", ".join(sorted(SECRET_HEADERS))},
            )
        return self

    def rule(self) -> Rule:
        """Return the rule."""
        return ComponentRule(self.component) if self.component else HeaderRule(self.header or "", self.equals)
