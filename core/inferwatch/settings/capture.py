"""The section `capture`: what the sidecar captures. The middleware takes the same names as arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from inferwatch.delivery.tls import KEY_ALONE, Tls
from inferwatch.sampling import Sampling
from inferwatch.settings.redaction import RedactSettings
from inferwatch.settings.section import Section

CaptureMode = Literal["all", "request", "response"]


class SampleBySettings(Section):
    """What decides whether a request is captured: a value of its own, so that all requests of one value go together."""

    header: str | None = Field(None, min_length=1)
    """A request header, in any case."""
    field: str | None = Field(None, min_length=1)
    """A JSON path into the request's body, as in `$.instances[0].user_id`; of several values, the first counts."""


class SampleSettings(Section):
    """The share of requests that is captured, each with its response."""

    rate: float = Field(1.0, ge=0, le=1)
    """The share, from 0 to 1."""
    by: SampleBySettings | None = None
    """What decides; chance where unset, and where a request has no such value."""
    key_file: Path | None = None
    """A file with the key of the hash that decides; the same for every process that is to decide alike."""

    @model_validator(mode="after")
    def _can_be_applied(self) -> Self:
        try:
            Sampling.of(self.model_dump(exclude={"key_file"}))
        except ValueError as error:
            raise PydanticCustomError("rule", "{reason}", {"reason": str(error)}) from error
        return self

    def rooted(self, root: Path) -> SampleSettings:
        """Return the settings with a relative key file taken from a directory."""
        return self if self.key_file is None else self.model_copy(update={"key_file": root / self.key_file})


class ModelCaptureSettings(Section):
    """What is captured of one model otherwise than of the rest; what is unset is as for the rest."""

    enabled: bool | None = None
    """Whether anything is captured."""
    mode: CaptureMode | None = None
    """Which events are made."""
    sample: SampleSettings | None = None
    """The share of requests that is captured."""
    redact: tuple[RedactSettings, ...] = ()
    """What is taken out besides."""
    max_body_bytes: int | None = Field(None, ge=0)
    """Longer bodies are cut and marked, bytes."""

    def rooted(self, root: Path) -> ModelCaptureSettings:
        """Return the settings with relative key files taken from a directory."""
        sample = None if self.sample is None else self.sample.rooted(root)
        return self.model_copy(update={"sample": sample, "redact": tuple(rule.rooted(root) for rule in self.redact)})


class TlsSettings(Section):
    """How sinks over https are verified. Files are PEM, and read anew when they change."""

    ca_file: Path | None = None
    """The certificates that sinks must be signed by, instead of the system's, which then count no more; to trust both,
    put both in the file."""
    certificate_file: Path | None = None
    """The certificate that is shown to a sink that asks for one."""
    key_file: Path | None = None
    """Its key, without a password; where unset, it is in the file of the certificate."""

    @model_validator(mode="after")
    def _key_belongs_to_a_certificate(self) -> Self:
        if self.key_file is not None and self.certificate_file is None:
            raise PydanticCustomError("key", KEY_ALONE)
        return self

    def rooted(self, root: Path) -> TlsSettings:
        """Return the settings with relative files taken from a directory."""
        files: dict[str, Path] = self.model_dump(exclude_none=True)
        return self.model_copy(update={key: root / path for key, path in files.items()})

    def tls(self) -> Tls:
        """Return what a sink takes."""
        return Tls(self.ca_file, self.certificate_file, self.key_file)


class CaptureSettings(Section):
    """What the sidecar captures. `inferwatch proxy` reads it; the middleware takes the same names as arguments."""

    enabled: bool = True
    """Whether anything is captured."""
    mode: CaptureMode = "all"
    """Which events are made."""
    metadata_headers: tuple[str, ...] = ()
    """Request headers to carry in `metadata`, in any case; credentials never are."""
    paths: tuple[str, ...] | None = None
    """Globs of what is captured, such as `/v1/models/*:predict`; `*` also matches `/`. Everything where unset."""
    sample: SampleSettings | None = None
    """The share of requests that is captured; all where unset."""
    redact: tuple[RedactSettings, ...] = ()
    """What is taken out before an event is queued: `headers.NAME`, a JSON path into bodies, or a section. A body that a
    path cannot be applied to, a cut one for example, is withheld whole."""
    max_body_bytes: int = Field(1_048_576, ge=0)
    """Longer bodies are cut and marked, bytes; default 1 MiB."""
    queue_bytes: int | None = Field(None, ge=65_536)
    """The space that undelivered events may take; 256 MiB in a queue file, 64 MiB in memory."""
    when_full: Literal["drop_oldest", "drop_newest"] = "drop_oldest"
    """What is dropped, and counted, when it is full: what has waited longest, or what comes."""
    tls: TlsSettings | None = None
    """How sinks over https are verified: by the system's certificates where unset. Brokers have `transport.options`."""
    models: Mapping[str, ModelCaptureSettings] = {}
    """What differs for single models, by the name that V1 and V2 paths have, or globs such as `test-*`: the first
    counts."""

    def rooted(self, root: Path) -> CaptureSettings:
        """Return the settings with relative files taken from a directory."""
        general = ModelCaptureSettings(sample=self.sample, redact=self.redact).rooted(root)
        models = {name: model.rooted(root) for name, model in self.models.items()}
        tls = None if self.tls is None else self.tls.rooted(root)
        update = {"sample": general.sample, "redact": general.redact, "models": models, "tls": tls}
        return self.model_copy(update=update)

    def options(self) -> dict[str, Any]:
        """Return what the middleware takes as arguments, those of queue and sinks left out."""
        return self.model_dump(exclude={"queue_bytes", "when_full", "tls"}, exclude_none=True)
