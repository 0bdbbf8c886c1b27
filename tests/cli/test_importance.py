"""What features matter is told over the logged rows, by asking the served model in the form of its traffic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import orjson
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.state import State
from inferwatch.pipeline import derive
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_cli.main import main
from inferwatch_detectors.worker import Worker
from tests.explainers.servers import ModelServer, serving
from tests.inferences import NOON, request

ROWS = np.random.default_rng(0).integers(0, 9, size=(200, 3)).astype(float)
NAMES = ("age", "income", "noise")
Run = Callable[..., tuple[int, str]]


def weighed(rows: Matrix) -> Matrix:
    return np.asarray(rows @ [1.0, -3.0, 0.0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reference, and a log of 40 requests of five objects, one of them with a gap."""
    pd.DataFrame(ROWS, columns=list(NAMES)).to_csv(tmp_path / "ref.csv", index=False)
    joblib.dump(LinearRegression().fit(ROWS, weighed(ROWS)), tmp_path / "model.joblib")
    rows = [dict(zip(reversed(NAMES), row[::-1], strict=True)) for row in ROWS.astype(int).tolist()]
    rows[7]["age"] = None
    events = [request(f"r{n}", n, rows[n * 5 : n * 5 + 5]) for n in range(40)]
    events.append(request("inferwatch-explain-1", 41, [[99, 99, 99]] * 50))
    clock = ManualClock(NOON + 86_400 * NS_PER_S)
    with Journal.open(tmp_path / "data", clock=clock) as journal, State.open(tmp_path / "data") as state:
        journal.append(events).result()
        with JournalReader(tmp_path / "data") as reader:
            derive(reader, state, Worker([]), pair_timeout_s=60)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def importance(explainer: str, *options: str, model: str = "default/income") -> tuple[int, str]:
        path = folder / "inferwatch.yaml"
        path.write_text(f"models: [{{name: income, reference: ref.csv, explainers: [{{{explainer}}}]}}]")
        asked = ["inferwatch", "importance", "--config", str(path), "--data", str(folder / "data"), "--model", model]
        monkeypatch.setattr(sys, "argv", [*asked, *options])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.err if ended.value.code else output.out

    return importance


@pytest.fixture
def server() -> Iterator[tuple[ModelServer, str]]:
    model = ModelServer(Schema(tuple(Feature(name, "numeric") for name in NAMES)), weighed)
    with serving(model.application()) as address:
        yield model, address


def test_the_served_model_is_asked_as_its_clients_ask(run: Run, server: tuple[ModelServer, str]) -> None:
    model, address = server
    code, out = run(f"method: kernel_shap, predictor: '{address}', protocol: v1", "--json", "--repeats", "20")
    entry = orjson.loads(out)
    assert code == 0
    assert (entry["method"], entry["features"], entry["rows"]) == ("permutation_importance", list(NAMES), 199)
    assert entry["predictor_rows"] == model.asked_rows == 199 * (1 + 3 * 20)
    age, income, noise = entry["values"]
    assert (noise, income) == (0, pytest.approx(3 * age, rel=0.15))
    assert model.calls[0].body["instances"][0].keys() == set(NAMES)
    assert isinstance(model.calls[0].body["instances"][0]["age"], int)
    assert {call.headers["x-inferwatch-origin"] for call in model.calls} == {"explain"}


def test_an_artefact_is_asked_and_the_newest_rows_count(run: Run) -> None:
    artifact = "method: linear, artifact: model.joblib, trust_pickle: true"
    code, out = run(artifact, "--last", "195")
    first, second, *lines = out.splitlines()
    assert code == 0
    assert first.startswith("default/income: 194 logged rows, 1 left out for a missing or unknown value; ")
    assert second == "how far predictions move when one feature is another row's:"
    assert [line.split()[0] for line in lines] == ["income", "age", "noise"]


def test_what_cannot_be_asked_is_said_in_a_line(run: Run) -> None:
    explainer = "method: kernel_shap, predictor: 'http://127.0.0.1:9'"
    code, said = run(explainer, model="default/other")
    assert (code, said.count("\n")) == (2, 1)
    assert "--model: 'default/other': no such model with an explainer; there are default/income" in said
    code, said = run(explainer)
    assert (code, said.count("\n")) == (1, 1)
    assert "the predictor of income cannot be reached" in said
    code, said = run(explainer, "--data", "nowhere")
    assert (code, said.count("\n")) == (1, 1)
