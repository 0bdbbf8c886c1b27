"""AIF360's metrics of a batch: whether groups of the explained rows are decided about alike."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, MissingExtra
from inferwatch.explanation import Summary, Target
from inferwatch.rows import Matrix
from inferwatch_explainers.adapters.setting import Adapter, Option, Setting
from inferwatch_explainers.arguments import checked_rows
from inferwatch_explainers.classes import check_classes, classes
from inferwatch_explainers.readout import checked_outputs

_OPTIONS: Mapping[str, Option] = {
    "protected": (str, ...),
    "privileged": (list[str | float], ...),
    "favourable": (str | int, 1),
}
_METRICS = ("base_rate", "disparate_impact", "statistical_parity_difference")
_COUNTS = ("num_instances", "num_negatives", "num_positives")


class Aif360:
    """Reports AIF360's `BinaryLabelDatasetMetric` over the decisions of a batch.

    `protected` names a feature, `privileged` its values that are better off (categories, or numbers), `favourable` the
    decision to be had. One entry about all rows: `predictions` and `metrics`, of which those that do not exist (a group
    without a row) are None.
    """

    method = "aif360"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        protected = setting.options["protected"]
        if protected not in setting.schema.names:
            raise InvalidOption(f"protected is {protected!r}, which is none of {', '.join(setting.schema.names)}")
        self._place = setting.schema.names.index(protected)
        try:
            from aif360.datasets import BinaryLabelDataset
            from aif360.metrics import BinaryLabelDatasetMetric
        except ImportError as fault:
            raise MissingExtra(self.method, "aif360") from fault
        self._dataset, self._metric = BinaryLabelDataset, BinaryLabelDatasetMetric

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Summary:
        """Return the metrics of rows (n, d), about the decision `target` where it is given, else about `favourable`.

        Raises `InvalidRows` for another width or values that are not finite, `InvalidOption` for a predictor of no
        classes.
        """
        started = time.monotonic()
        rows = checked_rows(rows, self._setting.background.shape[1])
        outputs = checked_outputs(self._setting.predict(rows), len(rows))
        check_classes(outputs)
        decided = classes(outputs)
        favourable = self._setting.options["favourable"] if target is None else target
        good = np.array([str(each) == str(favourable) for each in decided.tolist()])
        entry = {"predictions": decided.tolist(), "metrics": self._metrics(rows, good)}
        return Summary(self.method, (entry,), 0, 0, time.monotonic() - started)

    def _metrics(self, rows: Matrix, good: NDArray[np.bool_]) -> dict[str, Any]:
        import pandas as pd

        table = pd.DataFrame(rows, columns=[f"x{place}" for place in range(rows.shape[1])])
        table["privileged"] = self._privileged(rows).astype(float)
        table["decision"] = good.astype(float)
        dataset = self._dataset(
            favorable_label=1.0,
            unfavorable_label=0.0,
            df=table,
            label_names=["decision"],
            protected_attribute_names=["privileged"],
        )
        metric = self._metric(
            dataset, unprivileged_groups=[{"privileged": 0.0}], privileged_groups=[{"privileged": 1.0}]
        )
        with np.errstate(all="ignore"):
            found: dict[str, Any] = {name: _number(getattr(metric, name)()) for name in _METRICS}
            neighbours = min(5, len(rows))
            found["consistency"] = [_number(value) for value in metric.consistency(n_neighbors=neighbours)]
        return found | {name: int(getattr(metric, name)()) for name in _COUNTS}

    def _privileged(self, rows: Matrix) -> NDArray[np.bool_]:
        feature = self._setting.schema.features[self._place]
        wanted = {str(value) for value in self._setting.options["privileged"]}
        values = self._setting.schema.decode(rows)
        if feature.kind == "categorical":
            return np.array([str(row[self._place]) in wanted for row in values])
        numbers = [float(value) for value in self._setting.options["privileged"]]
        return np.isin(rows[:, self._place], numbers)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


ADAPTERS: Mapping[str, Adapter] = {"aif360": Adapter(Aif360, _OPTIONS)}
