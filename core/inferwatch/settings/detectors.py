"""The sections about a model's detectors, and the windows that they judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from inferwatch.settings.section import Section


class WindowSettings(Section):
    """The rows that are judged together: so many, those of some minutes, or with both whichever comes first."""

    rows: int | None = Field(None, ge=2, le=10_000_000)
    """Rows of a window, exactly; an event may be split between two. 500 where no minutes are given."""
    minutes: float | None = Field(None, gt=0, le=527_040, allow_inf_nan=False)
    """Minutes of event time from a window's first row on; the window is judged once rows behind its end have come, with
    as many rows as it has. Rows that come later still count as late and are judged by no window."""
    slide: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The next window begins so many rows, or minutes where no rows are given, behind the beginning of the last;
    windows that overlap spend only what they add of the false alarms. One behind the other where unset."""

    @model_validator(mode="after")
    def _slide_fits(self) -> Self:
        if self.slide is None:
            return self
        limit = self.minutes if self.rows is None and self.minutes is not None else float(self.size)
        if self.slide > limit:
            raise PydanticCustomError(
                "slide", "slide {slide} leaves rows out; at most {limit}", {"slide": self.slide, "limit": limit}
            )
        if (self.rows is not None or self.minutes is None) and not self.slide.is_integer():
            raise PydanticCustomError(
                "slide", "slide {slide} is a number of rows here, a whole one", {"slide": self.slide}
            )
        return self

    @property
    def size(self) -> int:
        """The rows that a window is expected to have; 500 where only time closes it."""
        return self.rows or 500

    @property
    def full(self) -> int | None:
        """The rows that complete a window; None where only time does."""
        return None if self.rows is None and self.minutes is not None else self.size


class _DetectorSettings(Section):
    name: str | None = Field(None, min_length=1, max_length=128)
    """Defaults to the method, made unique."""
    method: str
    component: str = "predictor"
    """The component of the InferenceService whose traffic is judged."""
    on: Literal["inputs", "predictions", "embeddings", "explanations"] = "inputs"
    """`inputs`: the rows of requests, whether or not a response comes. `predictions`: what paired responses hold.
    `embeddings`: the length and projections of their vectors, or of the requests' where those come first.
    `explanations`, for drift alone: how much each feature contributed to the predictions that were explained. Where the
    reference has none of them (`outputs`), the first 1,000 live rows are the reference."""


class AgainstSettings(Section):
    """Traffic that is judged against, in place of the reference."""

    endpoint: str = Field(min_length=1)
    """Another endpoint of the same component, such as `stable`."""


class DriftSettings(_DetectorSettings):
    """A detector of change between the reference and windows of live rows."""

    kind: Literal["drift"]
    against: AgainstSettings | None = None
    """Judges every other endpoint against what this one received at the same time; the reference where unset."""
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


class ExpectSettings(Section):
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
