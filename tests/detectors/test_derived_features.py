"""Detectors judge what is derived of texts and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson

from inferwatch.derived import TEXT
from inferwatch.payload_log.views import column_names
from inferwatch.reference import Reference, read_reference
from inferwatch.rows import Column, Feature, Rows
from inferwatch.settings import ModelSettings
from inferwatch_detectors.stream_judge import part_of
from inferwatch_detectors.worker import Worker
from tests.detectors.watched import HISTOGRAM, items, model
from tests.inferences import request

FEATURES = (Feature("prompt.characters", "numeric"), Feature("prompt.words", "numeric"))


def prompts(count: int, words: int, seed: int) -> list[str]:
    lengths = np.random.default_rng(seed).poisson(words, count) + 1
    return [" ".join(["word"] * length) for length in lengths.tolist()]


def chat(prompt: str) -> bytes:
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]})


def test_longer_prompts_are_a_drift() -> None:
    texts = np.array(prompts(1000, 20, seed=0), dtype=object)
    reference = Reference.build(Rows((Column("prompt", texts),), 1000), features=FEATURES, created_ns=0)
    worker = Worker([model(HISTOGRAM, reference=reference)])
    found = []
    for seed, words in ((1, 20), (2, 40)):
        bodies = enumerate(map(chat, prompts(50, words, seed=seed)), start=50 * seed)
        found += worker.judge(items(request(f"id-{second}", second, body) for second, body in bodies))
    assert [finding.fired for finding in found] == [False, True]
    assert {feature.name for feature in found[1].features if feature.fired} == set(reference.schema.names)


def test_columns_keep_their_names_where_features_are_derived() -> None:
    rows = Rows((Column("model", np.array(["m"], dtype=object)), Column("prompt", np.array(["a"], dtype=object))), 1)
    assert column_names(rows, [feature.name for feature in FEATURES]) == ("model", "prompt")
    assert column_names(rows, ["a", "b"]) == ("a", "b")


def test_a_text_that_is_an_output_is_no_input(tmp_path: Path) -> None:
    texts = np.array(prompts(60, 4, seed=0), dtype=object) + np.array([str(n) for n in range(60)], dtype=object)
    rows = Rows((Column("n", np.arange(60.0)), Column("prompt", texts)), 60)
    Reference.build(rows, created_ns=0).save(tmp_path / "saved")
    chosen = read_reference(tmp_path / "saved", features=(Feature("n", "numeric"),), also=("prompt",), created_ns=0)
    assert chosen.schema.names == ("n", *(f"prompt.{what}" for what in TEXT))
    settings = ModelSettings.model_validate({"name": "m", "reference": "saved", "outputs": ["prompt"]})
    found = [part_of(chosen, settings, kind) for kind in ("inputs", "predictions")]
    assert [part and part.schema.names for part in found] == [("n",), chosen.schema.names[1:]]
