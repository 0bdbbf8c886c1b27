"""References are made of logged traffic, and say so where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.errors import ConfigError
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.state import State
from inferwatch.pipeline import derive
from inferwatch.reference import Reference
from inferwatch_cli.checks import checked
from inferwatch_cli.main import main
from inferwatch_detectors.worker import Worker
from tests.inferences import NOON, request


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of 40 requests of 5 rows, with a probe and rows of another width between them."""
    events = [request(f"r{n}", n, [[float(n * 5 + row), -1.0] for row in range(5)]) for n in range(40)]
    events[20:20] = [request("probe", 20, b""), request("wide", 20, [[1, 2, 3]])]
    clock = ManualClock(NOON + 86_400 * NS_PER_S)
    with Journal.open(tmp_path, clock=clock) as journal, State.open(tmp_path) as state:
        journal.append(events).result()
        with JournalReader(tmp_path) as reader:
            derive(reader, state, Worker([]), pair_timeout_s=60)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int | None:
    monkeypatch.setattr(sys, "argv", ["inferwatch", "reference", "build", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_newest_rows_of_the_log_become_a_reference_in_their_order(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(log / "new.reference")
    logged = ["--logged", "default/income", "--data", str(log), "--out", out]
    assert run(monkeypatch, *logged, "--last", "103") == 0
    assert capsys.readouterr().out.startswith(f"{out}: 103 rows, 2 features, id ")
    reference = Reference.load(out)
    assert reference.ordered
    assert reference.rows[:, 0].tolist() == list(range(97, 200))
    assert run(monkeypatch, *logged) == 0
    assert Reference.load(out).count == 200


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--logged", "default/other", "--data", "LOG"], 1, "default/other: no rows of requests are logged there"),
        (["--logged", "default/income"], 2, "--data: is required with --logged"),
        (["--logged", "income", "--data", "LOG"], 2, "--logged: 'income': a model is named NS/NAME"),
        ([], 2, "--input: a reference is made of either --input FILE or --logged NS/NAME"),
        (["--input", "a.csv", "--last", "5"], 2, "--last: goes with --logged"),
    ],
)
def test_what_is_wrongly_asked_is_said_in_a_line(
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    told: str,
) -> None:
    given = [str(log) if option == "LOG" else option for option in options]
    assert run(monkeypatch, *given, "--out", str(log / "out")) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("{logged: {first: 100}}", None),
        ("{logged: {last: 100}}", None),
        ("{'1': new.csv}", None),
        ("{logged: {first: 1}}", "models[0].reference.logged.first: 1: input should be greater than or equal to 2"),
        ("{logged: {}}", "models[0].reference.logged: `logged` has either `first` or `last`"),
        ("{logged: {latest: 5}}", "models[0].reference.logged.latest: unknown key; allowed here: first, last"),
        ("{'1': none.csv}", "models[0].reference: there is no file"),
    ],
)
def test_a_reference_is_a_file_or_logged_or_goes_by_version(tmp_path: Path, reference: str, fault: str | None) -> None:
    (tmp_path / "new.csv").write_text("age\n" + "1\n2\n" * 500)
    config = tmp_path / "inferwatch.yaml"
    config.write_text(f"models: [{{name: '*', namespace: '*', reference: {reference}, detectors: [{{kind: drift}}]}}]")
    if fault is None:
        assert len(checked(config).models) == 1
        return
    with pytest.raises(ConfigError) as refused:
        checked(config)
    assert str(refused.value.faults[0]).startswith(fault)
