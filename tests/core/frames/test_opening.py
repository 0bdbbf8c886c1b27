"""Logs and models that are not there, and a log without its process."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

import inferwatch
from inferwatch.errors import MissingExtra, PayloadLogError
from tests.core.frames.logged import Log, asked


def test_a_log_can_be_read_after_its_process_ended(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.take(asked("a", 1, {"instances": [[1]]}))
    log.close()
    assert len(inferwatch.payloads("default/income", data=str(tmp_path))) == 1


@pytest.mark.parametrize("model", ["income", "/income", "default/", ""])
def test_a_model_without_namespace_is_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(ValueError, match="namespace/name"):
        inferwatch.payloads(model, data=tmp_path)


def test_a_time_without_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zone"):
        inferwatch.findings(data=tmp_path, since=datetime(2026, 11, 21))


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (partial(inferwatch.payloads, "default/income"), inferwatch.findings):
        with pytest.raises(PayloadLogError, match=f"{tmp_path / 'none'}: there is no such directory"):
            read(data=tmp_path / "none")


def test_a_directory_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(PayloadLogError, match=str(tmp_path)):
        inferwatch.payloads("default/income", data=tmp_path)


def test_without_pandas_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferwatch.frames.find_spec", {"pandas": None}.get)
    with pytest.raises(MissingExtra, match=r"inferwatch\[pandas\]"):
        inferwatch.payloads("default/income", data=tmp_path)
