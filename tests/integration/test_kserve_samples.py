"""The cases of KServe's own explanation samples: its server, and `inferwatch explain`, started as KServe starts it.

That of an image is in `tests/profiles`, where PyTorch is.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inferwatch_cli.demo.processes import answering, free_port, running
from tests.cli.test_explaining import explaining
from tests.components import demo_python

pytestmark = pytest.mark.integration

SERVER = Path(__file__).with_name("kserve_samples_server.py")
NAMES = ["age", "workclass", "education", "marital", "occupation", "relationship", "race", "sex"]
NAMES += ["gain", "loss", "hours", "country"]
CONFIG = """
models:
  - {name: income, reference: income.csv, explainers: [{method: anchors_tabular, deadline_s: 60}]}
  - {name: moviesentiment, reference: income.csv, explainers: [{method: anchors_text, deadline_s: 60}]}
"""


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log, port = tmp_path_factory.mktemp("kserve") / "server.log", free_port()
    with running([demo_python(), SERVER, str(port)], log) as process:
        asyncio.run(answering(f"http://127.0.0.1:{port}/v2/health/ready", process, log))
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def explainer(predictor: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("explainer")
    rows = np.random.default_rng(2).integers(0, 20, size=(2000, 12))
    rows[:, 3] %= 4
    pd.DataFrame(rows, columns=NAMES).to_csv(directory / "income.csv", index=False)
    (directory / "inferwatch.yaml").write_text(CONFIG)
    kserves = ["--predictor_host", predictor, "--http_port", "0", "--workers", "1"]
    with explaining("--config", str(directory / "inferwatch.yaml"), *kserves) as url:
        yield url


def post(url: str, body: object, accept: str = "application/json") -> bytes:
    headers = {"Content-Type": "application/json", "Accept": accept}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=90) as reply:
        return bytes(reply.read())


def predicted(predictor: str, name: str, instances: list[Any]) -> Any:
    url = f"http://{predictor}/v1/models/{name}:predict"
    return np.array(json.loads(post(url, {"instances": instances}))["predictions"])


def test_income_is_explained_by_the_rule_that_decides_it(explainer: str, predictor: str) -> None:
    row = [39, 7, 13, 1, 4, 1, 4, 1, 2174, 0, 40, 9]
    [entry] = json.loads(post(f"{explainer}/v1/models/income:explain", {"instances": [row]}))["explanations"]
    about = {name for name in NAMES for condition in entry["anchor"] if name in condition}
    assert (about, entry["target"]) == ({"education", "marital"}, 1)
    assert entry["precision"] >= 0.95
    assert entry["predictor_calls"] <= 8
    fresh = np.random.default_rng(9).integers(0, 20, size=(4000, 12))
    fresh[:, 3] %= 4
    held = pd.DataFrame(fresh, columns=NAMES).query(" and ".join(entry["anchor"]))
    assert len(held) > 100
    assert predicted(predictor, "income", held.to_numpy().tolist()).mean() >= entry["precision_low"] - 0.03
    old = json.loads(
        post(f"{explainer}/v1/models/income:explain", {"instances": [row], "parameters": {"reply": "alibi"}})
    )
    assert old["meta"]["name"] == "AnchorTabular"
    assert old["data"]["anchor"] == entry["anchor"]


def test_a_review_is_explained_by_its_telling_word_and_drawn_with_it_highlighted(
    explainer: str, predictor: str
) -> None:
    review = "the plot was boring and the music two hours of film"
    url = f"{explainer}/v1/models/moviesentiment:explain"
    [entry] = json.loads(post(url, {"instances": [review]}))["explanations"]
    assert (entry["anchor"], entry["positions"], entry["target"]) == (["boring"], [[13, 19]], 0)
    assert entry["precision"] >= 0.95
    words, generator = review.split(), np.random.default_rng(9)
    masks = (generator.random((500, len(words))) < 0.5) | (np.array(words) == "boring")
    fresh = [" ".join(np.where(mask, words, "UNK")) for mask in masks]
    assert (predicted(predictor, "moviesentiment", fresh) == 0).mean() >= entry["precision_low"] - 0.03
    drawn = post(url, {"instances": [review]}, "image/svg+xml")
    assert b">boring<" in drawn
    assert b"0 while these words stand" in drawn
