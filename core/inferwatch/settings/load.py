"""The whole configuration, read from a file and the environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from inferwatch.errors import ConfigError, Fault
from inferwatch.settings.capture import CaptureSettings
from inferwatch.settings.documents import read_document
from inferwatch.settings.faults import ENVIRONMENT_PREFIX, fault_of, unknown_key, unparsed_variable
from inferwatch.settings.models import FleetSettings, ModelSettings, repeated
from inferwatch.settings.services import (
    AuthSettings,
    ExcludeSettings,
    ExplainSettings,
    IngestSettings,
    PayloadLogSettings,
)
from inferwatch.settings.transport import EmbeddedTransport, KafkaTransport, TransportSettings


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )

    transport: TransportSettings = EmbeddedTransport()
    """What is between ingest and payload log: nothing, or a Kafka topic."""
    payload_log: PayloadLogSettings = PayloadLogSettings()
    ingest: IngestSettings = IngestSettings()
    capture: CaptureSettings = CaptureSettings()
    auth: AuthSettings = AuthSettings()
    explain: ExplainSettings = ExplainSettings()
    exclude: tuple[ExcludeSettings, ...] = ()
    """Traffic that is stored and not judged, beside health checks and what explainers ask."""
    fleet: FleetSettings | None = None
    models: tuple[ModelSettings, ...] = ()

    @field_validator("models")
    @classmethod
    def _distinct_models(cls, models: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
        if twice := repeated([f"{model.namespace}/{model.name}" for model in models]):
            raise PydanticCustomError("repeated", "{name} is configured twice", {"name": twice})
        return models

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file; read nothing else."""
        return env_settings, init_settings


def load_settings(path: Path) -> Settings:
    """Return the settings of a YAML file, the environment applied. Raises `ConfigError` with every fault at once."""
    document = read_document(path)
    private = [key for key in document if key.startswith("_")]  # pydantic-settings takes some of these for its own
    try:
        settings = Settings(**{key: value for key, value in document.items() if key not in private})
    except ValidationError as fault:
        faults = [fault_of(error, Settings) for error in fault.errors(include_url=False)]
        raise ConfigError([*_unknown(private), *faults]) from fault
    except SettingsError as fault:
        raise ConfigError([*_unknown(private), unparsed_variable(fault)]) from fault
    if private:
        raise ConfigError(_unknown(private))
    return _rooted(settings, path.parent)


def _unknown(keys: Sequence[str]) -> list[Fault]:
    return [unknown_key(key, Settings) for key in keys]


def _rooted(settings: Settings, root: Path) -> Settings:
    """Return the settings with relative paths taken from the directory of the file."""
    redact = tuple(rule.rooted(root) for rule in settings.payload_log.redact)
    log = settings.payload_log.model_copy(update={"path": root / settings.payload_log.path, "redact": redact})
    transport = settings.transport
    if isinstance(transport, KafkaTransport):
        transport = transport.rooted(root)
    token, key = settings.auth.bearer_token_file, settings.auth.origin_key_file
    files = {"bearer_token_file": root / token if token else None, "origin_key_file": root / key if key else None}
    auth = settings.auth.model_copy(update=files)
    models = tuple(model.rooted(root) for model in settings.models)
    python = settings.explain.legacy_python
    explain = settings.explain.model_copy(update={"legacy_python": root / python if python else None})
    update = {"transport": transport, "payload_log": log, "auth": auth, "explain": explain, "models": models}
    return settings.model_copy(update={**update, "capture": settings.capture.rooted(root)})
