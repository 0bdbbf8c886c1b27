"""Inference events: CloudEvents that carry one request or one response of a served model, and who they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from inferwatch.clock import format_time

REQUEST_TYPE = "org.kubeflow.serving.inference.request"
RESPONSE_TYPE = "org.kubeflow.serving.inference.response"

EXPLANATION_TYPE = "io.inferwatch.explanation"
"""The type of an event that tells of explanations."""

SENDER = "inferwatchsender"
"""The attribute of an event whose id is unique only among those of one sender, which it names: ModelMesh's are so."""

ROLE = "inferwatchrole"
"""The attribute of an event whose type is another's and stands, by configuration, for `request` or `response`."""

EXPLAIN_ID_PREFIX = "inferwatch-explain-"
"""Begins the `Ce-Id` of every call that an explainer makes to its predictor."""

ORIGIN_HEADER = "X-Inferwatch-Origin"
"""Marks a request's origin; the value `explain` keeps it out of every detector."""


class Role(IntEnum):
    """Which half of an inference an event carries."""

    REQUEST = 0
    RESPONSE = 1


ROLES: Mapping[str, Role] = {REQUEST_TYPE: Role.REQUEST, RESPONSE_TYPE: Role.RESPONSE}
"""The event types that carry a payload, beside events that `ROLE` marks; any other valid one is ignored and counted."""

_MARKS: Mapping[str, Role] = {role.name.lower(): role for role in Role}


class Service(NamedTuple):
    """A served model: an InferenceService of a namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Stream(NamedTuple):
    """What windows, findings and metrics are kept per: canary and stable, transformer and predictor never mix."""

    namespace: str
    name: str
    component: str
    endpoint: str

    @property
    def service(self) -> Service:
        """The served model that the stream belongs to."""
        return Service(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """A CloudEvent 1.0 with its data as raw bytes.

    `extensions` holds every attribute beside the ones named here, lower-case, as text. `truncated` says that `data` is
    the beginning of a body that was larger than the receiver keeps.
    """

    id: str
    source: str
    type: str
    time_ns: int | None = None
    content_type: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    data: bytes = b""
    truncated: bool = False

    @property
    def role(self) -> Role | None:
        """Request or response; None where the event is no payload."""
        role = ROLES.get(self.type)
        return _MARKS.get(self.extensions.get(ROLE, "")) if role is None else role

    @property
    def inference_id(self) -> str:
        """What both halves of an inference share: the id, or in a type that is another's its `requestid`, if any."""
        return (ROLE in self.extensions and self.extensions.get("requestid")) or self.id

    @property
    def component(self) -> str:
        """The part of the InferenceService that the event is of; absent or empty, as KServe has it by default."""
        return self.extensions.get("component") or "predictor"

    @property
    def stream(self) -> Stream:
        """The stream the event belongs to. Absent or empty attributes read as KServe's defaults."""
        get = self.extensions.get
        return Stream(
            get("namespace") or "default",
            get("inferenceservicename") or "unknown",
            self.component,
            get("endpoint") or "default",
        )

    def attributes(self) -> dict[str, str]:
        """Return every attribute as text under its CloudEvents name, `data` left out."""
        named = {"specversion": "1.0", "id": self.id, "source": self.source, "type": self.type}
        if self.time_ns is not None:
            named["time"] = format_time(self.time_ns)
        if self.content_type is not None:
            named["datacontenttype"] = self.content_type
        return {**named, **self.extensions}

    def key(self) -> bytes:
        """Return 16 bytes that are equal exactly for redeliveries of one event.

        The key covers the stream, id, type and time; the body's bytes stand in where there is no time, so that a client
        that reuses ids loses nothing.
        """
        moment = str(self.time_ns).encode() if self.time_ns is not None else blake2b(self.data, digest_size=16).digest()
        sized = _sized_kept(*self.stream) + _sized(self.id) + _sized_kept(self.type)
        return blake2b(sized + len(moment).to_bytes(4, "big") + moment, digest_size=16).digest()


def _sized(*texts: str) -> bytes:
    return b"".join([part for text in map(str.encode, texts) for part in (len(text).to_bytes(4, "big"), text)])


_sized_kept = lru_cache(maxsize=256)(_sized)
"""The same of what many events share."""
