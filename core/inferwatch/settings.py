"""The configuration: one YAML file for every command, overridden by `INFERWATCH_...` environment variables.

Unknown keys are refused. `load_settings` raises one `ConfigError` that lists every fault with its path, the value and
what is allowed. Relative paths are relative to the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from inferwatch.documents import read_document
from inferwatch.errors import ConfigError, Fault
from inferwatch.exclusion import ComponentRule, HeaderRule, Rule
from inferwatch.origin import Origin
from inferwatch.promise import Promise
from inferwatch.redaction import Redaction
from inferwatch.rows import Feature, Kind
from inferwatch.settings_faults import ENVIRONMENT_PREFIX, fault_of, unknown_key, unparsed_variable
from inferwatch.wire.privacy import SECRET_HEADERS, is_secret


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TransportSettings(_Section):
    """How events travel between the parts."""

    kind: Literal["embedded"] = "embedded"
    """`embedded`: everything in one process, on the payload log itself."""


class PayloadLogSettings(_Section):
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
    redact: tuple[str, ...] = ()
    """What is taken out before anything is written: `headers.NAME`, or a JSON path into bodies, as in
    `$.instances[*].ssn`. A body that a path cannot be applied to is withheld whole."""

    @field_validator("redact")
    @classmethod
    def _readable_rules(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        try:
            Redaction(rules)
        except ValueError as error:
            raise PydanticCustomError("rule", "{reason}", {"reason": str(error)}) from error
        return rules


class IngestSettings(_Section):
    """What comes in."""

    max_body_bytes: int = Field(33_554_432, ge=1024)
    """Larger bodies are stored cut, bytes; default 32 MiB."""
    pair_timeout_s: float = Field(60.0, gt=0, le=86_400)
    """A response belongs to a request of its id whose event time is at most so many seconds away."""
    max_inflight_bytes: int = Field(268_435_456, ge=1_048_576)
    """Bytes that may wait for the log; beyond, events are refused and counted. Default 256 MiB."""


class CaptureSettings(_Section):
    """What the sidecar captures. `inferwatch proxy` reads it; the middleware takes the same names as arguments."""

    mode: Literal["all", "request", "response"] = "all"
    """Which events are made."""
    metadata_headers: tuple[str, ...] = ()
    """Request headers to carry in `metadata`, in any case; credentials never are."""
    paths: tuple[str, ...] | None = None
    """Globs of what is captured, such as `/v1/models/*:predict`; `*` also matches `/`. Everything where unset."""
    max_body_bytes: int = Field(1_048_576, ge=0)
    """Longer bodies are cut and marked, bytes; default 1 MiB."""
    queue_bytes: int | None = Field(None, ge=65_536)
    """The space that undelivered events may take, oldest dropped first; 256 MiB in a queue file, 64 MiB in memory."""


class AuthSettings(_Section):
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


class ExplainSettings(_Section):
    """The `:explain` service."""

    max_queue: int = Field(64, ge=1)
    """Requests that may wait; beyond, 429."""


class ExcludeSettings(_Section):
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


class FeatureSettings(_Section):
    """One input of the model, where the reference's own column says too little."""

    name: str = Field(min_length=1)
    kind: Kind
    categories: tuple[str, ...] = ()
    """The known categories of a categorical feature; those of the reference where empty."""

    @model_validator(mode="after")
    def _categories_fit(self) -> Self:
        if self.kind == "numeric" and self.categories:
            raise PydanticCustomError(
                "categories", "categories are for categorical features; {name} is numeric", {"name": self.name}
            )
        if twice := _repeated(self.categories):
            raise PydanticCustomError("repeated", "category {name} is listed twice", {"name": repr(twice)})
        return self

    def feature(self) -> Feature:
        """Return the feature that the setting declares."""
        return Feature(self.name, self.kind, self.categories)


class FalseAlarmSettings(_Section):
    """The false alarms of a model that its users tolerate, over all features of a detector."""

    expected_run_length_days: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Days between two false alarms of a detector, on average; 30 where no unit is given. Windows that fill within
    seconds then need plain evidence: a promise in windows suits a short test."""
    expected_run_length_windows: float | None = Field(None, gt=1, allow_inf_nan=False)
    """The same in windows."""
    expected_run_length_rows: float | None = Field(None, gt=1, allow_inf_nan=False)
    """The same in rows."""
    smallest_effect: float = Field(0.1, ge=0, lt=5)
    """The smallest shift that matters: reference standard deviations of a number, five times the total variation of
    a category. 0: any shift."""

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        given = [
            unit for unit in ("days", "windows", "rows") if getattr(self, f"expected_run_length_{unit}") is not None
        ]
        if len(given) > 1:
            raise PydanticCustomError(
                "units", "one unit of expected_run_length is allowed, not {given}", {"given": " and ".join(given)}
            )
        return self

    def promise(self) -> Promise:
        """Return the promise; 30 days where nothing is said."""
        if self.expected_run_length_windows is not None:
            return Promise(self.expected_run_length_windows, "windows")
        if self.expected_run_length_rows is not None:
            return Promise(self.expected_run_length_rows, "rows")
        return Promise(self.expected_run_length_days or 30.0, "days")


class WindowSettings(_Section):
    """The rows that are judged together."""

    rows: int = Field(500, ge=2, le=10_000_000)
    """Rows of a window, exactly; an event may be split between two."""


class _DetectorSettings(_Section):
    name: str | None = Field(None, min_length=1, max_length=128)
    """Defaults to the method, made unique."""
    method: str
    component: str = "predictor"
    """The component of the InferenceService whose traffic is judged."""


class DriftSettings(_DetectorSettings):
    """A detector of change between the reference and windows of live rows."""

    kind: Literal["drift"]
    on: Literal["inputs"] = "inputs"
    """`inputs`: the rows of requests, whether or not a response comes."""
    method: str = "histogram"
    window: WindowSettings = WindowSettings()


class OutlierSettings(_DetectorSettings):
    """A detector of single rows that the reference does not explain."""

    kind: Literal["outlier"]
    method: str = "ensemble"
    false_alarm_rate: float = Field(0.001, gt=0, lt=1)
    """The share of ordinary rows that may be flagged."""
    report: Literal["fired", "all"] = "fired"
    """`all` gives a finding for every row."""


class ExpectSettings(_Section):
    """What is declared about a feature, whatever the reference knows."""

    min: float | None = Field(None, allow_inf_nan=False)
    """The least number allowed."""
    max: float | None = Field(None, allow_inf_nan=False)
    """The greatest number allowed."""
    missing_at_most: float | None = Field(None, ge=0, le=1)
    """The share of a window that may be missing."""
    unseen_at_most: float | None = Field(None, ge=0, le=1)
    """The share of a window that may be of categories that the reference does not list."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise PydanticCustomError("bounds", "min {low} is above max {high}", {"low": self.min, "high": self.max})
        return self


class QualitySettings(_DetectorSettings):
    """A detector of faulty cells: missing, of the wrong type, infinite, out of range, unseen, or constant."""

    kind: Literal["quality"]
    method: str = "quality"
    window: WindowSettings = WindowSettings()
    expect: Mapping[str, ExpectSettings] = {}
    """What is declared, by feature; for the rest the reference is what is expected."""


AnyDetectorSettings = DriftSettings | OutlierSettings | QualitySettings
DetectorSettings = Annotated[AnyDetectorSettings, Field(discriminator="kind")]


class ExplainerSettings(_Section):
    """A way to explain predictions; the first of a model is its default."""

    method: str
    predictor: str | None = Field(None, pattern=r"^https?://[^\s/]+")
    """Base URL of the model server; needed without an `artifact`, unless `explain` is told by `--predictor_host`."""
    artifact: Path | None = None
    """The model as a file, asked in place of the server: a scikit-learn model as pickle or joblib. Where `predictor` is
    given too, both have to answer alike."""
    trust_pickle: bool = False
    """Whether the artefact may be a pickle, which can run any code as it is read."""
    immutable: tuple[str, ...] = ()
    """Features that a `counterfactual` leaves as they are."""
    protocol: Literal["auto", "v1", "v2", "v2_binary"] = "auto"
    """What the predictor speaks; `auto` finds out, V2 with binary tensors included, which is by far the fastest."""
    deadline_s: float = Field(5.0, gt=0, le=600)
    """Seconds after which a coarser answer is given."""
    samples: int | None = Field(None, ge=2)
    """Coalitions to ask, spent in full where the deadline allows. Unset: all 2^d up to 11 features (16 with
    `exact_shapley`); above, as many as standard errors of about 1 % of the values need, at most 2 d + 2048."""

    def rooted(self, root: Path) -> ExplainerSettings:
        """Return the settings with a relative artefact taken from a directory."""
        return self.model_copy(update={"artifact": root / self.artifact if self.artifact else None})


class ModelSettings(_Section):
    """A served model and what is watched about it."""

    namespace: str = Field("default", min_length=1)
    name: str = Field(min_length=1)
    """The name of the InferenceService."""
    features: tuple[FeatureSettings, ...] = ()
    """Chooses and orders the reference's columns and fixes their kinds; all columns, kinds learnt, where empty."""
    reference: Path
    """CSV, Parquet, npy or npz; or a file that `reference build` saved, known by its content."""
    reference_rows: int = Field(5_000, ge=2)
    """Rows of the reference kept for exact tests, conformal scores and Shapley backgrounds."""
    burn_in_rows: int | None = Field(None, ge=0)
    """First rows of live traffic, which tell how much rows depend on each other; unset: as many as that needs, at most
    3,000."""
    false_alarms: FalseAlarmSettings = FalseAlarmSettings()
    detectors: tuple[DetectorSettings, ...] = ()
    explainers: tuple[ExplainerSettings, ...] = ()

    @field_validator("features")
    @classmethod
    def _distinct_features(cls, features: tuple[FeatureSettings, ...]) -> tuple[FeatureSettings, ...]:
        if twice := _repeated([feature.name for feature in features]):
            raise PydanticCustomError("repeated", "feature {name} is declared twice", {"name": twice})
        return features

    @field_validator("detectors")
    @classmethod
    def _distinct_detectors(cls, detectors: tuple[AnyDetectorSettings, ...]) -> tuple[AnyDetectorSettings, ...]:
        if twice := _repeated([detector.name for detector in detectors if detector.name is not None]):
            raise PydanticCustomError("repeated", "two detectors are named {name}", {"name": twice})
        return detectors

    def named_detectors(self) -> list[tuple[str, AnyDetectorSettings]]:
        """Return every detector under its unique name: the one given, else the method, numbered from the second on."""
        taken = {detector.name for detector in self.detectors if detector.name is not None}
        named = []
        for detector in self.detectors:
            name, number = detector.name or detector.method, 2
            while detector.name is None and name in taken:
                name, number = f"{detector.method}-{number}", number + 1
            taken.add(name)
            named.append((name, detector))
        return named


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )

    transport: TransportSettings = TransportSettings()
    payload_log: PayloadLogSettings = PayloadLogSettings()
    ingest: IngestSettings = IngestSettings()
    capture: CaptureSettings = CaptureSettings()
    auth: AuthSettings = AuthSettings()
    explain: ExplainSettings = ExplainSettings()
    exclude: tuple[ExcludeSettings, ...] = ()
    """Traffic that is stored and not judged, beside health checks and what explainers ask."""
    models: tuple[ModelSettings, ...] = ()

    @field_validator("models")
    @classmethod
    def _distinct_models(cls, models: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
        if twice := _repeated([f"{model.namespace}/{model.name}" for model in models]):
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
    log = settings.payload_log.model_copy(update={"path": root / settings.payload_log.path})
    token, key = settings.auth.bearer_token_file, settings.auth.origin_key_file
    files = {"bearer_token_file": root / token if token else None, "origin_key_file": root / key if key else None}
    auth = settings.auth.model_copy(update=files)
    models = tuple(
        model.model_copy(
            update={
                "reference": root / model.reference,
                "explainers": tuple(explainer.rooted(root) for explainer in model.explainers),
            }
        )
        for model in settings.models
    )
    return settings.model_copy(update={"payload_log": log, "auth": auth, "models": models})


def _repeated(names: Sequence[str]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)
