"""A served model as explainers see it: which of them there are, its background, its predictors, its artefacts."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inferwatch.errors import InvalidOption
from inferwatch.explanation import Explanation
from inferwatch.origin import Origin
from inferwatch.protocols import Explainer, Predict
from inferwatch.rows import Matrix
from inferwatch_explainers.adapters.child_process import ChildProcess
from inferwatch_explainers.adapters.setting import Setting
from inferwatch_explainers.adapters.table import ADAPTERS
from inferwatch_explainers.artifact import Artifact
from inferwatch_explainers.background import Reference, background_rows, complete_rows
from inferwatch_explainers.counterfactual import Counterfactual
from inferwatch_explainers.predictor import RemotePredictor
from inferwatch_explainers.registry import (
    DECISION_EXPLAINERS,
    EXPLAINERS,
    MODEL_EXPLAINERS,
    TEXT_EXPLAINERS,
    check_method,
    explains_texts,
    looks_into_model,
    options_of,
)
from inferwatch_explainers.request import ExplainRequest, Options
from inferwatch_explainers.text_predictor import TextPredictor
from inferwatch_explainers.texts import texts_of
from inferwatch_explainers.ways import Spoken, Way


@dataclass(frozen=True, slots=True)
class ExplainerSpec:
    """One way to explain a model: the method, where its predictor is, and what a request may leave out.

    With an artefact the model is asked in this process; a predictor beside it then has to answer alike. `options` are
    the method's own (`registry.options_of`), `input_shape` and `examples` are for algorithms of other libraries
    (`inferwatch_explainers.adapters`). The predictor is asked at `other_url` where nothing listens at `predictor_url`,
    and protocol `auto` looks for gRPC at `grpc_port`.
    """

    method: str
    predictor_url: str | None
    protocol: Spoken = "auto"
    deadline_s: float = 5.0
    samples: int | None = None
    artifact: Artifact | None = None
    immutable: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, ...] = ()
    examples: Path | None = None
    other_url: str | None = None
    grpc_port: int | None = None

    @property
    def asked(self) -> Hashable:
        """What two explainers have in common that share a predictor."""
        return self.predictor_url, self.protocol, self.grpc_port


@dataclass(frozen=True, slots=True)
class ExplainedModel:
    """A model to explain; the first of its explainers is the default."""

    namespace: str
    name: str
    reference: Reference
    explainers: Sequence[ExplainerSpec]


class Served:
    """A model with its background drawn, one predictor an address, and explainers of the model itself prepared."""

    def __init__(self, model: ExplainedModel, origin: Origin | None, legacy: ChildProcess | None) -> None:
        for spec in model.explainers:
            check_method(spec.method)
        self.model = model
        self._legacy = legacy
        schema = model.reference.schema
        self.background: Matrix = background_rows(model.reference)
        self.reference: Matrix = complete_rows(model.reference)
        self.predictors = {
            spec.asked: RemotePredictor(
                spec.predictor_url,
                model.name,
                schema,
                protocol=spec.protocol,
                origin=origin,
                other_url=spec.other_url,
                grpc_port=spec.grpc_port,
            )
            for spec in model.explainers
            if spec.predictor_url is not None
        }
        self.of_models = {
            spec.method: MODEL_EXPLAINERS[spec.method](
                spec.artifact.estimator, spec.artifact.inputs(self.background), schema=schema
            )
            for spec in model.explainers
            if spec.method in MODEL_EXPLAINERS and spec.artifact is not None
        }

    def spec(self, method: str | None) -> ExplainerSpec:
        """Return the explainer of this method, else the default one with the method in its place."""
        default = self.model.explainers[0]
        if method is None:
            return default
        named = next((spec for spec in self.model.explainers if spec.method == method), None)
        return named or replace(default, method=method, samples=None, options={})

    def version(self, spec: ExplainerSpec) -> str | None:
        """Return the model version that the predictor of an explainer named last, None where it names none."""
        if spec.predictor_url is None:
            return None
        return self.predictors[spec.asked].version

    def metadata(self) -> dict[str, Any]:
        """Return what V2 says of a model, as KServe's own servers without tensors, and how each explainer asks."""
        explainers = [
            {
                "method": spec.method,
                "protocol": None if spec.predictor_url is None else spec.protocol,
                "ways": [] if spec.predictor_url is None else [way._asdict() for way in self._ways(spec)],
            }
            for spec in self.model.explainers
        ]
        known: dict[str, Any] = {"name": self.model.name, "versions": None, "platform": "", "inputs": [], "outputs": []}
        return known | {"explainers": explainers}

    def _ways(self, spec: ExplainerSpec) -> list[Way]:
        return list(self.predictors[spec.asked].ways.values())

    def explainer(self, spec: ExplainerSpec, predict: Predict, options: Options, deadline_s: float) -> Explainer:
        """Return what explains this model so. Raises `InvalidOption` for an option or an artefact that is not there."""
        schema, samples = self.model.reference.schema, options.samples or spec.samples
        taken = _taken(spec, options)
        if spec.method in ADAPTERS:
            return self._adapted(spec, predict, taken, deadline_s)
        if spec.method in self.of_models:
            return self.of_models[spec.method]
        if spec.method in MODEL_EXPLAINERS:
            raise InvalidOption(f"{spec.method} explains a model at hand; none is configured as its `artifact`")
        if spec.method == "counterfactual":
            fixed = options.immutable if options.immutable is not None else spec.immutable
            return Counterfactual(
                predict, self.reference, schema=schema, samples=samples, deadline_s=deadline_s, immutable=fixed, **taken
            )
        if spec.method in DECISION_EXPLAINERS:
            decide = DECISION_EXPLAINERS[spec.method]
            return decide(predict, self.reference, schema=schema, samples=samples, deadline_s=deadline_s)
        make = EXPLAINERS[spec.method]
        return make(predict, self.background, schema=schema, samples=samples, deadline_s=deadline_s)

    def explained_texts(
        self, spec: ExplainerSpec, predict: TextPredictor, asked: ExplainRequest, deadline_s: float
    ) -> Explanation:
        """Return the explanation of texts. Raises what `explainer` raises, and what explaining raises."""
        options, target = _taken(spec, asked.options), asked.options.target
        if spec.method in ADAPTERS:
            setting = Setting(
                lambda rows: predict(texts_of(rows, asked.schema)),
                asked.values,
                asked.values,
                asked.schema,
                options,
                deadline_s=deadline_s,
                legacy=self._legacy,
                predict_texts=predict,
            )
            return ADAPTERS[spec.method].make(setting).explain(asked.values, target=target)
        samples = asked.options.samples or spec.samples
        explainer = TEXT_EXPLAINERS[spec.method](predict, samples=samples, deadline_s=deadline_s, **options)
        return explainer.explain(texts_of(asked.values, asked.schema), target=target)

    def _adapted(
        self, spec: ExplainerSpec, predict: Predict, options: Mapping[str, Any], deadline_s: float
    ) -> Explainer:
        adapter = ADAPTERS[spec.method]
        artifact = spec.artifact
        own = adapter.needs == "trees" and artifact is not None
        return adapter.make(
            Setting(
                predict,
                artifact.inputs(self.background) if own and artifact is not None else self.background,
                self.reference,
                self.model.reference.schema,
                options,
                None if artifact is None else artifact.estimator,
                spec.input_shape,
                deadline_s,
                spec.examples,
                self._legacy,
            )
        )


def explain_request(
    served: Served, spec: ExplainerSpec, asked: ExplainRequest, headers: dict[str, str], ends: float
) -> Explanation:
    """Explain in a worker's thread; the time spent waiting for a place counts against the deadline."""
    if explains_texts(spec.method):
        return _explain_texts(served, spec, asked, headers, ends)
    remote = None
    if spec.predictor_url is not None:
        remote = served.predictors[spec.asked].bind(asked.form, headers=headers, ends=ends)
    predict: Predict | None = remote
    if spec.artifact is not None:
        answering = spec.artifact.answering
        predict = spec.artifact.outputs if remote is None else answering(asked.values, remote(asked.values))
    if predict is None:
        raise AssertionError("unreachable: an explainer has a predictor or an artefact")
    explainer = served.explainer(spec, predict, asked.options, max(ends - time.monotonic(), 1e-3))
    at_hand = spec.artifact is not None and looks_into_model(spec.method)
    rows = spec.artifact.inputs(asked.values) if at_hand and spec.artifact is not None else asked.values
    explanation = explainer.explain(rows, target=asked.options.target)
    if remote is None:
        return replace(explanation, predictor_calls=0, predictor_rows=0)
    return replace(explanation, predictor_calls=remote.calls, predictor_rows=remote.rows)


def _explain_texts(
    served: Served, spec: ExplainerSpec, asked: ExplainRequest, headers: dict[str, str], ends: float
) -> Explanation:
    if spec.predictor_url is None:
        raise InvalidOption(f"{spec.method} asks a server, and no `predictor` is configured for it")
    remote = served.predictors[spec.asked]
    predict = TextPredictor(
        lambda schema: remote.bind(asked.form, headers=headers, ends=ends, schema=schema), asked.schema.names[0]
    )
    explanation = served.explained_texts(spec, predict, asked, max(ends - time.monotonic(), 1e-3))
    return replace(explanation, predictor_calls=predict.calls, predictor_rows=predict.rows)


def _taken(spec: ExplainerSpec, options: Options) -> dict[str, Any]:
    """Return the method's own options, of configuration and request. Raises `InvalidOption` for those not for it."""
    if options.immutable and spec.method != "counterfactual":
        raise InvalidOption(f"immutable is for counterfactual, not for {spec.method}")
    return options_of(spec.method, {**spec.options, **(options.options or {})})
