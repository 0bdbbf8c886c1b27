"""Captum's attributions, of PyTorch models at hand or, where an algorithm only asks the model, of any predictor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, MissingExtra
from inferwatch.explanation import Attribution, Target
from inferwatch.rows import Matrix
from inferwatch_explainers.adapters.setting import Adapter, Count, NotNegative, Option, Setting
from inferwatch_explainers.arguments import checked_rows
from inferwatch_explainers.readout import Readout, checked_outputs
from inferwatch_explainers.torch_model import TorchModel

Tensor = Any
"""A torch.Tensor; torch may be absent."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One row to explain: `inputs` and `baseline` (1, *shape), `background` (m, *shape), and the model's `target`."""

    model: Any
    inputs: Tensor
    baseline: Tensor
    background: Tensor
    target: int | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Algorithm:
    """How one class of captum is called.

    `against`: what values are measured against, the one baseline or the whole background; None where they are no
    contributions that start somewhere. `complete`: they sum to the distance from there.
    """

    attribute: Callable[[Any, _Job], Tensor]
    options: Mapping[str, Option]
    against: Literal["baseline", "background"] | None = "baseline"
    complete: bool = False
    needs: Literal["predictor", "torch"] = "torch"


class Captum:
    """Explains by an algorithm of captum, row by row.

    Values keep the order of the flattened inputs. The baseline is the background's mean, or zero with `baseline: zero`.
    `gap` is NaN for algorithms whose values do not sum to anything.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        try:
            import captum.attr
        except ImportError as fault:
            raise MissingExtra(f"captum.{name}", "captum") from fault
        self.method = f"captum.{name}"
        self._class = getattr(captum.attr, name)
        self._algorithm = _ALGORITHMS[name]
        self._setting = setting
        self._model = setting.estimator if isinstance(setting.estimator, TorchModel) else None
        if self._model is None and self._algorithm.needs == "torch":
            raise InvalidOption(f"{self.method} looks into a PyTorch model; none is configured as its `artifact`")

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Attribution:
        """Return the attribution of each row (n, d), for its largest output or own label unless `target` names one.

        Raises `InvalidRows` for another width or values that are not finite, `InvalidOption` for a target or an option
        that the model has no place for.
        """
        started = time.monotonic()
        rows = checked_rows(rows, self._setting.background.shape[1])
        prediction = checked_outputs(self._setting.predict(rows), len(rows))
        readout = self._setting.readout(prediction, target)
        with self._model.lock if self._model is not None else nullcontext():
            values, base = self._attributed(rows, readout)
        predicted = readout.read(prediction)
        gap = predicted - base - values.sum(axis=1) if self._algorithm.complete else np.full(len(rows), np.nan)
        return Attribution(
            method=self.method,
            features=self._setting.schema.names,
            values=values,
            base_value=base,
            prediction=predicted,
            target=readout.targets,
            gap=gap,
            std_error=np.full_like(values, np.nan),
            exact=False,
            predictor_calls=0,
            predictor_rows=0,
            elapsed_s=time.monotonic() - started,
            shape=self._setting.input_shape,
        )

    def _attributed(self, rows: Matrix, readout: Readout) -> tuple[Matrix, Matrix]:
        import torch

        against = self._setting.background
        baseline = against.mean(axis=0, keepdims=True)
        if self._setting.options.get("baseline") == "zero":
            against = baseline = np.zeros_like(baseline)
        values, base = np.empty_like(rows), np.full(len(rows), np.nan)
        for place, row in enumerate(rows):
            one = Readout(readout.targets[place : place + 1], readout.labels)
            job = self._job(row[None], baseline, against, one)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                values[place] = self._run(job).detach().double().numpy().reshape(-1)
            if self._algorithm.against is not None:
                start = baseline if self._algorithm.against == "baseline" else against
                base[place] = self._numbers(start, one).mean()
        return values, base

    def _job(self, row: Matrix, baseline: Matrix, background: Matrix, readout: Readout) -> _Job:
        inputs, start, around = (self._tensor(each) for each in (row, baseline, background))
        if self._model is None:
            return _Job(lambda asked: self._asked(asked, readout), inputs, start, around, None, self._setting.options)
        target = readout.targets[0] if isinstance(readout.targets[0], int) else 0
        several = self._model.module(inputs).ndim == 2
        return _Job(self._model.module, inputs, start, around, target if several else None, self._setting.options)

    def _run(self, job: _Job) -> Tensor:
        try:
            return self._algorithm.attribute(self._class, job)
        except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError) as fault:
            line = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
            raise InvalidOption(f"{self.method} cannot explain this model: {line[:200]}") from fault

    def _tensor(self, rows: Matrix) -> Tensor:
        import torch

        if self._model is not None:
            return self._model.tensor(rows)
        return torch.from_numpy(np.ascontiguousarray(rows)).reshape(-1, *self._setting.shape)

    def _asked(self, inputs: Tensor, readout: Readout) -> Tensor:
        import torch

        return torch.from_numpy(self._numbers(inputs.detach().double().numpy().reshape(len(inputs), -1), readout))

    def _numbers(self, rows: Matrix, readout: Readout) -> NDArray[np.float64]:
        outputs = checked_outputs(self._setting.predict(rows), len(rows))
        return np.asarray(readout.read(outputs[None])[0])


def _with_baseline(kind: Any, job: _Job) -> Tensor:  # noqa: ANN401 - a class of captum
    return kind(job.model).attribute(job.inputs, baselines=job.baseline, target=job.target, **_arguments(job))


def _with_background(kind: Any, job: _Job) -> Tensor:  # noqa: ANN401
    return kind(job.model).attribute(job.inputs, baselines=job.background, target=job.target, **_arguments(job))


def _without_baseline(kind: Any, job: _Job) -> Tensor:  # noqa: ANN401
    return kind(job.model).attribute(job.inputs, target=job.target, **_arguments(job))


def _occlusion(kind: Any, job: _Job) -> Tensor:  # noqa: ANN401
    shape = tuple(job.inputs.shape[1:])
    window = tuple(job.options["window"] or (1,) * len(shape))
    if len(window) != len(shape):
        raise ValueError(f"window {list(window)} is to have the {len(shape)} dimensions of an input, {list(shape)}")
    arguments = {name: value for name, value in _arguments(job).items() if name != "window"}
    return kind(job.model).attribute(
        job.inputs, window, baselines=job.baseline, target=job.target, show_progress=False, **arguments
    )


def _grad_cam(kind: Any, job: _Job) -> Tensor:  # noqa: ANN401
    """Return the layer's attributions, spread over the image that they stand for and shared among its channels."""
    from captum.attr import LayerAttribution

    layer = job.model.get_submodule(job.options["layer"])
    small = kind(job.model, layer).attribute(job.inputs, target=job.target)
    spread = LayerAttribution.interpolate(small, tuple(job.inputs.shape[2:]), interpolate_mode="bilinear")
    return (spread / job.inputs.shape[1]).expand_as(job.inputs)


def _arguments(job: _Job) -> dict[str, Any]:
    return {name: value for name, value in job.options.items() if name != "baseline"}


_BASELINE: Mapping[str, Option] = {"baseline": (Literal["mean", "zero"], "mean")}
_BATCH: Mapping[str, Option] = {"perturbations_per_eval": (Count, 512)}

_ALGORITHMS: Mapping[str, _Algorithm] = {
    "IntegratedGradients": _Algorithm(_with_baseline, {**_BASELINE, "n_steps": (Count, 50)}, complete=True),
    "DeepLift": _Algorithm(_with_baseline, _BASELINE, complete=True),
    "GradientShap": _Algorithm(
        _with_background, {"n_samples": (Count, 50), "stdevs": (NotNegative, 0.0)}, "background", complete=True
    ),
    "LayerGradCam": _Algorithm(_grad_cam, {"layer": (str, ...)}, None),
    "Occlusion": _Algorithm(
        _occlusion, {**_BASELINE, **_BATCH, "window": (list[Count] | None, None)}, needs="predictor"
    ),
    "FeatureAblation": _Algorithm(_with_baseline, {**_BASELINE, **_BATCH}, needs="predictor"),
    "KernelShap": _Algorithm(
        _with_baseline, {**_BASELINE, **_BATCH, "n_samples": (Count, 200)}, complete=True, needs="predictor"
    ),
    "Lime": _Algorithm(_without_baseline, {**_BATCH, "n_samples": (Count, 200)}, None, needs="predictor"),
}


def _adapter(name: str, algorithm: _Algorithm) -> Adapter:
    return Adapter(lambda setting: Captum(name, setting), algorithm.options, algorithm.needs)


ADAPTERS: Mapping[str, Adapter] = {f"captum.{name}": _adapter(name, each) for name, each in _ALGORITHMS.items()}
