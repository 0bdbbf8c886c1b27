"""alibi 0.9.4 and AIX360, which no current environment holds: each call goes to the child process of their own one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption
from inferwatch.explanation import Anchors, Summary, Target
from inferwatch.rows import Matrix
from inferwatch.tables import read_table
from inferwatch_explainers.adapters.setting import Adapter, Count, Option, Positive, Setting, Share
from inferwatch_explainers.arguments import checked_rows
from inferwatch_explainers.classes import check_classes, classes
from inferwatch_explainers.readout import Readout, checked_outputs
from inferwatch_explainers.texts import texts_of

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Algorithm:
    """What an algorithm takes, and what its result becomes."""

    options: Mapping[str, Option]
    read: Callable[[Legacy, Result, Matrix], tuple[Mapping[str, Any], ...]] | None = None
    images: bool = False
    texts: bool = False


class Legacy:
    """Explains by an algorithm of alibi or AIX360 in the child process of `setting.legacy`.

    Anchors of rows and texts become `Anchors`, whose `precision_low` is NaN since these libraries give none; everything
    else a `Summary`. Labels that are texts are numbered on the way, and named again in what comes back.
    """

    def __init__(self, method: str, setting: Setting) -> None:
        self.method = method
        self._algorithm = _ALGORITHMS[method]
        self._setting = setting
        if setting.legacy is None:
            raise InvalidOption(
                f"{method} needs the environment of old libraries; name its Python as `explain.legacy_python`"
                " (`make test-profiles` makes .venvs/legacy-explain)"
            )
        if self._algorithm.images and len(setting.shape) != 3:
            raise InvalidOption(f"{method} is for images; give their `input_shape`: channels, height, width")
        self._child = setting.legacy
        self._labels: list[Any] = []
        self._decided: list[Any] | None = None

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Anchors | Summary:
        """Return the explanation of rows (n, d), or of the model where the algorithm is about it.

        Raises `InvalidRows` for another width or values that are not finite, `InvalidOption` for what the algorithm
        refuses, `PredictorError` for a predictor that fails, `PredictorTimeout` where there is no time for it.
        """
        started = time.monotonic()
        rows = checked_rows(rows, self._setting.background.shape[1])
        outputs = checked_outputs(self._setting.predict(rows), len(rows))
        result = self._child.call(self._arguments(rows, target), self._ask, self._setting.deadline_s)
        if "anchors" in result:
            return self._anchors(result["anchors"], outputs, started)
        entries = self._algorithm.read(self, result, rows) if self._algorithm.read else tuple(result["entries"])
        return Summary(self.method, tuple(entries), 0, 0, time.monotonic() - started)

    def _arguments(self, rows: Matrix, target: Target) -> dict[str, Any]:
        schema = self._setting.schema
        categories = {
            str(place): list(feature.categories)
            for place, feature in enumerate(schema.features)
            if feature.kind == "categorical"
        }
        options = dict(self._setting.options)
        arguments = {
            "method": self.method,
            "rows": rows,
            "reference": self._setting.reference,
            "names": list(schema.names),
            "categories": categories,
            "shape": list(self._setting.shape),
            "target": self._code(target),
        }
        if self._algorithm.texts:
            arguments["texts"] = texts_of(rows, schema)
        if self.method == "aix360.TED":
            arguments["taught"] = self._taught()
        return arguments | {"options": options}

    def _taught(self) -> Matrix:
        """Return the examples: numbers, a row each, reason and decision in the last two columns."""
        path, width = self._setting.examples, len(self._setting.schema.names) + 2
        if path is None:
            raise InvalidOption(f"{self.method} is taught with `examples`, and none are configured")
        columns = [np.asarray(column.values, dtype=np.float64) for column in read_table(path).columns]
        if len(columns) != width:
            raise InvalidOption(
                f"{path} has {len(columns)} columns; {width - 2} features, a reason and a decision are due"
            )
        return np.column_stack(columns)

    def _ask(self, rows: Matrix | list[str], how: str) -> NDArray[Any]:
        outputs = checked_outputs(self._outputs(rows), len(rows))
        if how == "scores":
            if outputs.dtype.kind != "f":
                outputs = np.stack([outputs == label for label in self.decided()], axis=1).astype(np.float64)
            return outputs if outputs.ndim == 2 else outputs[:, None]
        check_classes(outputs)
        return np.array([self._code(label) for label in classes(outputs).tolist()], dtype=np.int64)

    def _outputs(self, rows: Matrix | list[str]) -> NDArray[Any]:
        if not isinstance(rows, list):
            return self._setting.predict(rows)
        distinct = list(dict.fromkeys(rows))
        places = {text: place for place, text in enumerate(distinct)}
        assert self._setting.predict_texts is not None  # noqa: S101 - methods of texts are given it
        return np.asarray(self._setting.predict_texts(distinct))[[places[text] for text in rows]]

    def decided(self) -> list[Any]:
        """Return the labels that the model answers for rows of the reference, each of which has a score of 0 or 1.

        There are none where it answers numbers.
        """
        if self._decided is None:
            reference = self._setting.reference
            answered = checked_outputs(self._setting.predict(reference), len(reference))
            self._decided = [] if answered.dtype.kind == "f" else sorted(set(answered.tolist()))
        return self._decided

    def _code(self, label: Target) -> int | None:
        """Return a number for a label: itself, or for texts and truth values their place among those met."""
        if label is None or (isinstance(label, int) and not isinstance(label, bool)):
            return label
        if label not in self._labels:
            self._labels.append(label)
        return self._labels.index(label)

    def named(self, code: Any) -> Any:  # noqa: ANN401 - a label
        """Return the label that a number stands for."""
        return self._labels[code] if self._labels else code

    def decoded(self, places: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return rows of the reference by their places, as the values they stand for."""
        schema = self._setting.schema
        return [dict(zip(schema.names, row, strict=True)) for row in schema.decode(self._setting.reference[places])]

    def _anchors(self, found: list[Mapping[str, Any]], outputs: NDArray[Any], started: float) -> Anchors:
        readout = Readout.of(outputs)
        return Anchors(
            method=self.method,
            features=self._setting.schema.names,
            anchors=tuple(tuple(each["anchor"]) for each in found),
            precision=np.array([each["precision"] for each in found]),
            precision_low=np.full(len(found), np.nan),
            coverage=np.array([each["coverage"] for each in found]),
            prediction=readout.read(outputs),
            target=readout.targets,
            predictor_calls=0,
            predictor_rows=0,
            elapsed_s=time.monotonic() - started,
            positions=tuple(tuple((start, end) for start, end in each["positions"]) for each in found)
            if self._algorithm.texts
            else (),
        )


def _prototypes(legacy: Legacy, result: Result, _: Matrix) -> tuple[Mapping[str, Any], ...]:
    extra = {"weight": result["weights"].tolist()} if "weights" in result else {}
    if "labels" in result:
        extra = {"class": [legacy.named(code) for code in result["labels"].tolist()]}
    decoded = legacy.decoded(result["prototypes"])
    [(name, values)] = extra.items()
    prototypes = [{"row": row, name: value} for row, value in zip(decoded, values, strict=True)]
    return ({"prototypes": prototypes},)


def _scores(legacy: Legacy, result: Result, _: Matrix) -> tuple[Mapping[str, Any], ...]:
    labelled = ("prediction", "closest_not_predicted")
    return tuple(
        {name: legacy.named(value) if name in labelled else value for name, value in entry.items()}
        for entry in result["entries"]
    )


def _effects(legacy: Legacy, result: Result, _: Matrix) -> tuple[Mapping[str, Any], ...]:
    """Return the curves, with the labels that their columns are about where the model answers such."""
    labels = legacy.decided()
    return tuple({**entry, **({"targets": labels} if labels else {})} for entry in result["entries"])


def _rules(legacy: Legacy, result: Result, _: Matrix) -> tuple[Mapping[str, Any], ...]:
    return tuple({**entry, "target": legacy.named(entry["target"])} for entry in result["entries"])


_THRESHOLD: Mapping[str, Option] = {"threshold": (Share, 0.95), "delta": (Share, 0.1), "tau": (Share, 0.15)}

_ALGORITHMS: Mapping[str, _Algorithm] = {
    "alibi.AnchorTabular": _Algorithm(
        {**_THRESHOLD, "batch_size": (Count, 100), "disc_perc": (list[float], [25.0, 50.0, 75.0])}
    ),
    "alibi.AnchorImage": _Algorithm(
        {**_THRESHOLD, "p_sample": (Share, 0.5), "n_segments": (Count, 15), "compactness": (Positive, 10.0)},
        images=True,
    ),
    "alibi.AnchorText": _Algorithm(
        {**_THRESHOLD, "batch_size": (Count, 100), "sample_proba": (Share, 0.5), "language": (str, "en")}, texts=True
    ),
    "alibi.ALE": _Algorithm({"min_bin_points": (Count, 4)}, _effects),
    "alibi.ProtoSelect": _Algorithm({"num_prototypes": (Count, 5), "eps": (Positive | None, None)}, _prototypes),
    "alibi.PermutationImportance": _Algorithm(
        {"n_repeats": (Count, 10), "method": (Literal["estimate", "exact"], "estimate")}
    ),
    "alibi.TrustScore": _Algorithm({"k": (Count, 2), "k_filter": (Count, 10), "alpha": (float, 0.0)}, _scores),
    "aix360.Protodash": _Algorithm({"m": (Count, 5)}, _prototypes),
    "aix360.BRCG": _Algorithm(
        {"lambda0": (Positive, 0.001), "lambda1": (Positive, 0.001), "CNF": (bool, False)}, _rules
    ),
    "aix360.LogRR": _Algorithm({"lambda0": (Positive, 0.005), "lambda1": (Positive, 0.001)}, _rules),
    "aix360.TED": _Algorithm({}),
}


def _adapter(method: str) -> Adapter:
    algorithm = _ALGORITHMS[method]
    needs: Literal["predictor", "texts"] = "texts" if algorithm.texts else "predictor"
    return Adapter(lambda setting: Legacy(method, setting), algorithm.options, needs)


ADAPTERS: Mapping[str, Adapter] = {method: _adapter(method) for method in _ALGORITHMS}
