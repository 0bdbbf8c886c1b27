"""The sections about served models: their features, references, promises and explainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inferwatch.events import Service
from inferwatch.promise import Promise
from inferwatch.rows import Feature, Kind
from inferwatch.settings.detectors import AnyDetectorSettings, DetectorSettings, DriftSettings
from inferwatch.settings.section import Section


class FeatureSettings(Section):
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
        if twice := repeated(self.categories):
            raise PydanticCustomError("repeated", "category {name} is listed twice", {"name": repr(twice)})
        return self

    def feature(self) -> Feature:
        """Return the feature that the setting declares."""
        return Feature(self.name, self.kind, self.categories)


class FalseAlarmSettings(Section):
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


class FleetSettings(Section):
    """One budget of false alarms for the window detectors of all models, on top of each model's own `false_alarms`."""

    false_discovery_rate: float = Field(gt=0, lt=1)
    """Of the detectors (of a model, an endpoint, a segment) that alarm on a UTC day, at most this share is false, on
    average, however models and windows depend on each other. A window alarms where both this and the model's own
    promise let it; where this one does not, the finding's `why` says so."""


class ExplainerSettings(Section):
    """A way to explain predictions; the first of a model is its default."""

    method: str
    predictor: str | None = Field(None, pattern=r"^https?://[^\s/]+")
    """Base URL of the model server; needed without an `artifact`, unless `explain` is told by `--predictor_host`."""
    artifact: Path | None = None
    """The model as a file, asked in place of the server: XGBoost's JSON, LightGBM's text, ONNX, a scikit-learn model as
    skops file, pickle or joblib, a PyTorch model as TorchScript, exported program or pickle. Where `predictor` is given
    too, both have to answer alike."""
    trust_pickle: bool = False
    """Whether the artefact may be a pickle, which can run any code as it is read, or a skops file of unknown types."""
    input_shape: tuple[int, ...] = ()
    """The shape of one input where rows are flattened tensors, as in `[1, 28, 28]`; channels come first."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What the method takes beside, by its own names: an algorithm of another library; `anchors_text` and `text_shap`
    (`mask`, the text in place of other words, `UNK` by default, null to leave them out; and `replaced`, for
    `anchors_text`, how likely that is, 0.5); `counterfactual` (`ranges`, as in `{age: [18, null]}`, and `directions`,
    as in `{age: up}`, in which numbers may change)."""
    examples: Path | None = None
    """A table of examples that a method is taught with: features, reason and decision (`aix360.TED`)."""
    immutable: tuple[str, ...] = ()
    """Features that a `counterfactual` leaves as they are."""
    protocol: Literal["auto", "v1", "v2", "v2_binary", "grpc"] = "auto"
    """What the predictor speaks; `auto` finds out, and before the first large question which of all ways is the fastest
    that answers alike. `grpc` is V2 at the host and port of `predictor`, with TLS where that is `https`, and needs
    `inferwatch[grpc-predictor]`; with that, `auto` looks for it at `grpc_port`."""
    grpc_port: int | None = Field(None, ge=1, le=65535)
    """Where `auto` looks for gRPC at the host of `predictor`. Unset: at the port behind that of HTTP, or 8081 where
    `predictor` names none."""
    deadline_s: float = Field(5.0, gt=0, le=600)
    """Seconds after which a coarser answer is given."""
    samples: int | None = Field(None, ge=2)
    """Coalitions to ask, spent in full where the deadline allows. Unset: all 2^d up to 11 features (16 with
    `exact_shapley`); above, as many as standard errors of about 1 % of the values need, at most 2 d + 2048."""

    @model_validator(mode="after")
    def _port_is_looked_at(self) -> Self:
        if self.grpc_port is not None and self.protocol != "auto":
            raise PydanticCustomError(
                "grpc_port",
                "grpc_port is for protocol auto; {protocol} asks at predictor's port",
                {"protocol": self.protocol},
            )
        return self

    def rooted(self, root: Path) -> ExplainerSettings:
        """Return the settings with relative paths taken from a directory."""
        files = {"artifact": self.artifact, "examples": self.examples}
        return self.model_copy(update={name: root / path for name, path in files.items() if path is not None})


class LoggedSettings(Section):
    """So many logged rows of requests."""

    first: int | None = Field(None, ge=2)
    """The first ones that come."""
    last: int | None = Field(None, ge=2)
    """The newest ones in the log when judging begins, waited for where there are fewer. In a replay, which begins with
    the log, these are the first ones."""

    @model_validator(mode="after")
    def _names_one_end(self) -> Self:
        if (self.first is None) == (self.last is None):
            raise PydanticCustomError("logged", "`logged` has either `first` or `last`")
        return self

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.first or self.last or 0


class RollingSettings(Section):
    """The rows of the last days: a reference that follows the traffic.

    It is renewed 28 times while its days pass (of 28 days: at each midnight, UTC), the first time once 1,000 rows are
    old enough. A change that is slower than the reference rolls becomes part of it and raises no alarm.
    """

    days: float = Field(ge=0.001, le=366, allow_inf_nan=False)
    """Days of event time whose rows are the reference, of which `reference_rows` are drawn evenly; until so many have
    passed, those that there are."""
    lag_days: float = Field(1, ge=0, allow_inf_nan=False)
    """Days that rows have to be old, so that what changed just now is no part of the reference yet; at most `days`."""

    @model_validator(mode="after")
    def _lag_fits(self) -> Self:
        if self.lag_days > self.days:
            raise PydanticCustomError(
                "lag", "lag_days {lag} is more than days {days}", {"lag": self.lag_days, "days": self.days}
            )
        return self


class LiveReferenceSettings(Section):
    """A reference that is made of logged traffic."""

    logged: LoggedSettings | None = None
    rolling: RollingSettings | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.logged is None) == (self.rolling is None):
            raise PydanticCustomError("live", "a reference of live rows is either `logged` or `rolling`")
        return self


_LIVE = LiveReferenceSettings.model_fields.keys()


def _reference_form(value: object) -> str:
    if isinstance(value, LiveReferenceSettings) or (isinstance(value, Mapping) and value.keys() & _LIVE):
        return "live"
    return "versions" if isinstance(value, Mapping) else "file"


ReferenceSettings = Annotated[
    Annotated[Path, Tag("file")]
    | Annotated[LiveReferenceSettings, Tag("live")]
    | Annotated[Mapping[str, Path], Tag("versions")],
    Discriminator(_reference_form),
]


class HeaderSettings(Section):
    """A request header among the logged metadata."""

    header: str = Field(min_length=1)
    """Its name, in any case."""


class HoursSettings(Section):
    """Parts of each day or week, by event time in UTC: rows of a season are compared with their like."""

    hours: int = Field(gt=0)
    """Hours of a part, 2, 3, 4, 6, 8 or 12 of a day, 12 or 24 of a week."""
    of: Literal["day", "week"] = "day"
    """What is cut into parts."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if 24 % self.hours or not 1 < self.cycle // self.hours <= MOST_SEGMENTS:
            allowed = "12 or 24" if self.of == "week" else "2, 3, 4, 6, 8 or 12"
            raise PydanticCustomError(
                "hours", "a {of} is cut into parts of {allowed} hours", {"of": self.of, "allowed": allowed}
            )
        return self

    @property
    def cycle(self) -> int:
        """Hours of the whole."""
        return 168 if self.of == "week" else 24

    def part(self, time_ns: int) -> str:
        """Return the part in which a time lies, as `06-12` or `Mon 12-24`."""
        day, hour = divmod(time_ns // 3_600_000_000_000, 24)
        begin = hour // self.hours * self.hours
        name = f"{begin:02}-{begin + self.hours:02}"
        return f"{_WEEKDAYS[day % 7]} {name}" if self.of == "week" else name


_WEEKDAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")
"""From the first day of the epoch on."""

MOST_SEGMENTS = 20
"""Segments of one stream that are judged each for itself; rows of further ones make the segment `other`."""


def _split_form(value: object) -> str:
    if isinstance(value, str):
        return "feature"
    timed = isinstance(value, HoursSettings) or (isinstance(value, Mapping) and "hours" in value)
    return "hours" if timed else "header"


class SegmentSettings(Section):
    """A split of the traffic into segments, each judged for itself too."""

    by: Annotated[
        Annotated[str, Tag("feature")]
        | Annotated[HeaderSettings, Tag("header")]
        | Annotated[HoursSettings, Tag("hours")],
        Discriminator(_split_form),
    ]
    """A feature, `{header: NAME}`, or `{hours: 6}`: a part of the day. The first 20 values of all splits are segments
    of their own, further ones make the segment `other`."""


class ModelSettings(Section):
    """A served model and what is watched about it."""

    namespace: str = Field("default", min_length=1)
    """`*` for every namespace."""
    name: str = Field(min_length=1)
    """The name of the InferenceService; `*` for every one that no other entry names."""
    features: tuple[FeatureSettings, ...] = ()
    """Chooses and orders the reference's columns and fixes their kinds. All columns, kinds learnt, where empty: for one
    of text, with 50 different ones and more than half of its cells different, stand seven measures, `NAME.characters`
    and others; for one of arrays `NAME.size`, `NAME.length` and up to 16 projections."""
    reference: ReferenceSettings
    """CSV, Parquet, npy or npz; or a file that `reference build` saved, known by its content. `{logged: {first: N}}` or
    `{logged: {last: N}}`: logged rows, per component and endpoint; `{rolling: {days: 28, lag_days: 1}}`: those of the
    last days, ever anew. A mapping of model versions (the events' attribute
    `modelversion`) to files: each version is judged against its own, others by none."""
    reference_rows: int = Field(5_000, ge=2)
    """Rows of the reference kept for exact tests, conformal scores and Shapley backgrounds."""
    outputs: tuple[str, ...] = ()
    """Columns of the reference that are the model's outputs: what `on: predictions` is compared with, and no input."""
    segments: tuple[SegmentSettings, ...] = ()
    """Parts of the traffic that are judged apart too: they and the whole share the false alarms evenly."""
    burn_in_rows: int | None = Field(None, ge=0)
    """First rows of live traffic, which tell how much rows depend on each other; unset: as many as that needs, at most
    3,000. Where parts of the day or of the week are segments, give those of three."""
    false_alarms: FalseAlarmSettings = FalseAlarmSettings()
    detectors: tuple[DetectorSettings, ...] = ()
    """What judges the traffic: drift, outliers, the quality of data."""
    explainers: tuple[ExplainerSettings, ...] = ()

    @field_validator("features")
    @classmethod
    def _distinct_features(cls, features: tuple[FeatureSettings, ...]) -> tuple[FeatureSettings, ...]:
        if twice := repeated([feature.name for feature in features]):
            raise PydanticCustomError("repeated", "feature {name} is declared twice", {"name": twice})
        return features

    @model_validator(mode="after")
    def _against_inputs_alone(self) -> Self:
        for detector in self.detectors:
            if isinstance(detector, DriftSettings) and detector.against is not None and detector.on != "inputs":
                raise PydanticCustomError("against", "against is for inputs, not for {on}", {"on": detector.on})
        return self

    @model_validator(mode="after")
    def _explanations_fit(self) -> Self:
        on_them = [detector for detector in self.detectors if detector.on == "explanations"]
        if other := next((each.kind for each in on_them if each.kind != "drift"), None):
            raise PydanticCustomError("explanations", "explanations are for drift, not for {kind}", {"kind": other})
        if on_them and isinstance(self.reference, Mapping):
            raise PydanticCustomError(
                "explanations", "explanations name no model version, so that references by version judge none"
            )
        return self

    @field_validator("detectors")
    @classmethod
    def _distinct_detectors(cls, detectors: tuple[AnyDetectorSettings, ...]) -> tuple[AnyDetectorSettings, ...]:
        if twice := repeated([detector.name for detector in detectors if detector.name is not None]):
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

    @property
    def logged(self) -> LoggedSettings | None:
        """The logged rows that are the reference; None where it is given."""
        return self.reference.logged if isinstance(self.reference, LiveReferenceSettings) else None

    @property
    def rolling(self) -> RollingSettings | None:
        """The days of traffic that are the reference; None where it does not roll."""
        return self.reference.rolling if isinstance(self.reference, LiveReferenceSettings) else None

    @property
    def cycle_hours(self) -> int:
        """The hours of the longest season whose parts are segments; 0 where none are."""
        return max((split.by.cycle for split in self.segments if isinstance(split.by, HoursSettings)), default=0)

    def rooted(self, root: Path) -> ModelSettings:
        """Return the settings with relative paths taken from a directory."""
        reference = self.reference
        if isinstance(reference, Path):
            reference = root / reference
        elif isinstance(reference, Mapping):
            reference = {version: root / path for version, path in reference.items()}
        explainers = tuple(explainer.rooted(root) for explainer in self.explainers)
        return self.model_copy(update={"reference": reference, "explainers": explainers})


Configured = TypeVar("Configured")


def configured_for(models: Mapping[Service, Configured], service: Service) -> Configured | None:
    """Return what is configured for a service: under its own name, else under one with `*` in it."""
    if service in models:
        return models[service]
    wanted = (Service("*", service.name), Service(service.namespace, "*"), Service("*", "*"))
    return next((models[each] for each in wanted if each in models), None)


def repeated(names: Sequence[str]) -> str | None:
    """Return the first name that stands twice."""
    return next((name for index, name in enumerate(names) if name in names[:index]), None)
