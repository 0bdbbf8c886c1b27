"""Models that the libraries explain: of tables, of images, and where they are served."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from inferwatch.rows import Feature, Matrix, Schema


@dataclass(frozen=True)
class World:
    """A fitted classifier, the rows it was fitted on, and what they are called."""

    model: GradientBoostingClassifier | RandomForestClassifier
    rows: Matrix
    schema: Schema

    def scores(self, rows: Matrix) -> NDArray[np.float64]:
        return np.asarray(self.model.predict_proba(rows))

    def labels(self, rows: Matrix) -> NDArray[np.object_]:
        """The classes as texts, as many servers answer."""
        return np.array([f"class {label}" for label in self.model.predict(rows)], dtype=object)


def table() -> World:
    """Five numbers and a category of which the first two numbers and the category decide."""
    generator = np.random.default_rng(7)
    rows = np.column_stack([generator.normal(size=(600, 5)), generator.integers(0, 3, 600)])
    decided = (rows[:, 0] + 0.5 * rows[:, 1] + (rows[:, 5] == 2) > 0.3).astype(int)
    features = [Feature(f"x{place}", "numeric") for place in range(5)] + [
        Feature("kind", "categorical", ("a", "b", "c"))
    ]
    return World(
        GradientBoostingClassifier(n_estimators=40, random_state=0).fit(rows, decided), rows, Schema(tuple(features))
    )


def digits() -> World:
    data = load_digits()
    features = tuple(Feature(f"pixel {place}", "numeric") for place in range(64))
    model = RandomForestClassifier(60, random_state=0).fit(data.data, data.target)
    return World(model, np.asarray(data.data), Schema(features))
