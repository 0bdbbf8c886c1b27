"""`inferwatch erase`: what it says, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from inferwatch.payload_log.journal import Journal
from inferwatch_cli.main import main
from tests.core.payload_log.test_erasure import stored, take, traffic


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    """Return the exit code and everything that was said."""
    monkeypatch.setattr(sys, "argv", ["inferwatch", "erase", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_it_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    take(tmp_path, traffic())
    options = ("--data", tmp_path, "--model", "default/income")
    assert run(capsys, monkeypatch, *options, "--id", "id-1") == (
        0,
        f"{tmp_path}: 1 payloads of default/income erased\n",
    )
    assert run(capsys, monkeypatch, *options, "--where", "name=Ann")[1].startswith(f"{tmp_path}: 2 payloads of")
    assert stored(tmp_path) == ["id-1"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--model", "income", "--id", "1"), "--model: 'income': a model is named NS/NAME"),
        (("--model", "default/income"), "either --id or --where says what to erase"),
        (("--model", "default/income", "--id", "1", "--where", "a=1"), "either --id or --where says what to erase"),
        (("--model", "default/income", "--where", "name"), "--where: 'name': what to erase is COLUMN=VALUE"),
        (("--model", "default/income", "--where", "=1"), "--where: '=1': what to erase is COLUMN=VALUE"),
    ],
)
def test_wrong_usage_is_one_line_and_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    sentence: str,
) -> None:
    assert run(capsys, monkeypatch, "--data", tmp_path, *options) == (2, f"inferwatch: {sentence}\n")


def test_a_column_that_there_is_not_is_one_line_and_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(tmp_path, traffic())
    options = ("--data", tmp_path, "--model", "default/income", "--where")
    code, said = run(capsys, monkeypatch, *options, "nmae=Ann")
    assert code == 2
    assert said.startswith("inferwatch: --where: no payload of default/income has a column 'nmae'; there are age, ")
    assert run(capsys, monkeypatch, *options, "name=Nobody")[0] == 0


def test_a_log_in_use_is_one_line_and_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(tmp_path):
        code, said = run(capsys, monkeypatch, "--data", tmp_path, "--model", "default/income", "--id", "1")
    assert code == 1
    assert said.startswith(f"inferwatch: {tmp_path}: in use by another process (id ")
    assert said.count("\n") == 1
