"""`inferwatch import`: payloads that were logged elsewhere are in the log as if they had been sent here."""

from __future__ import annotations

import csv
import os
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from pyarrow import Table, parquet

import inferwatch
from inferwatch.clock import format_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch_cli.main import main

FILE_TIME_NS = 1_790_000_000_000_000_000
URL = {"Scheme": "http", "Opaque": "", "User": None, "Host": "localhost:9081", "Path": "/", "RawQuery": ""}
FIELDS = (
    *("url", "bytes", "contentType", "reqType", "id", "sourceUri", "inferenceService", "namespace", "component"),
    *("endpoint", "metadata", "annotations", "certName", "tlsSkipVerify"),
)


def record(kind: str, body: object, identity: str = "a-1", **fields: Any) -> dict[str, Any]:
    """Return a record as KServe's agent writes it in JSON."""
    return {
        "url": URL | {"Scheme": "s3", "Host": "bucket"},
        "bytes": b64encode(orjson.dumps(body)).decode(),
        "contentType": "application/json",
        "reqType": f"org.kubeflow.serving.inference.{kind}",
        "id": identity,
        "sourceUri": URL,
        "inferenceService": "iris",
        "namespace": "ns1",
        "component": "predictor",
        "metadata": {"X-Request-Id": ["r"], "Authorization": ["hidden"]},
    } | fields


PAIR = [record("request", {"instances": [{"age": 39}, {"age": 50}]}), record("response", {"predictions": [0, 1]})]


def run(data: Path, *files: Path, model: str = "default/income", options: tuple[str, ...] = ()) -> int:
    sys.argv = ["inferwatch", "import", "--data", str(data), "--model", model, *options, *map(str, files)]
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def _arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    os.utime(path, ns=(FILE_TIME_NS, FILE_TIME_NS))
    return path


def stored(data: Path) -> list[CloudEvent]:
    with JournalReader(data) as reader:
        return [entry.event for entry in reader.read(0, 1000)]


def flat(found: dict[str, Any]) -> dict[str, str]:
    """Return a record as KServe's agent writes it in CSV and Parquet: text alone, and no time."""
    return {
        field: orjson.dumps(value).decode() if isinstance(value := found.get(field, ""), dict) else str(value)
        for field in FIELDS
    }


def as_csv(path: Path, records: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(map(flat, records))
    return written(path, path.read_bytes())


def as_parquet(path: Path, records: list[dict[str, Any]]) -> Path:
    parquet.write_table(Table.from_pylist(list(map(flat, records))), path)
    return written(path, path.read_bytes())


FORMATS = {
    "array.json": lambda path: written(path, orjson.dumps(PAIR)),
    "lines.jsonl": lambda path: written(path, b"\n".join(map(orjson.dumps, PAIR))),
    "records.csv": lambda path: as_csv(path, PAIR),
    "records.parquet": lambda path: as_parquet(path, PAIR),
}


@pytest.mark.parametrize("name", FORMATS)
def test_kserves_records_in_each_format(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file, data = FORMATS[name](tmp_path / name), tmp_path / "log"
    assert run(data, file) == 0
    assert capsys.readouterr().out == f"{file}: 2 events stored, 0 there already\n"
    request, response = stored(data)
    assert (request.id, request.type, response.type) == ("a-1", REQUEST_TYPE, RESPONSE_TYPE)
    assert (request.time_ns, response.time_ns) == (FILE_TIME_NS, FILE_TIME_NS + 1)
    assert request.stream == ("default", "income", "predictor", "default")
    assert request.extensions["metadata"] == '{"X-Request-Id":["r"]}'
    assert request.data == orjson.dumps({"instances": [{"age": 39}, {"age": 50}]})
    frame = inferwatch.payloads("default/income", data=data)
    assert frame[["id", "age", "prediction", "outcome"]].values.tolist() == [
        ["a-1", 39, 0, "paired"],
        ["a-1", 50, 1, "paired"],
    ]


def test_a_file_may_be_imported_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [FORMATS[name](tmp_path / name) for name in ("array.json", "lines.jsonl")]
    assert run(tmp_path / "log", files[0]) == 0
    assert run(tmp_path / "log", *files) == 0
    assert capsys.readouterr().out.count("0 events stored, 2 there already") == 2
    assert len(stored(tmp_path / "log")) == 2


def test_a_record_keeps_its_own_time_and_stream(tmp_path: Path) -> None:
    own = record("request", {}, component="transformer", endpoint="canary", occurrenceTime="2026-11-21T10:00:00.5Z")
    zero = record("request", {}, "a-2", occurrenceTime="0001-01-01T00:00:00Z", sourceUri="/x")
    del zero["bytes"]
    assert run(tmp_path / "log", written(tmp_path / "a.json", orjson.dumps([own, zero]))) == 0
    first, second = stored(tmp_path / "log")
    assert (first.stream.component, first.stream.endpoint, first.source) == (
        "transformer",
        "canary",
        "http://localhost:9081/",
    )
    assert format_time(first.time_ns or 0) == "2026-11-21T10:00:00.5Z"
    assert (second.time_ns, second.source, second.data) == (FILE_TIME_NS + 1, "/x", b"")


def captured(identity: str, given: tuple[str, str], answered: tuple[str, str], content_type: str) -> bytes:
    halves = [{"observedContentType": content_type, "data": data, "encoding": kind} for kind, data in (given, answered)]
    about = {"eventId": identity, "inferenceTime": "2026-11-21T10:00:00Z"}
    both = {"endpointInput": halves[0], "endpointOutput": halves[1]}
    return orjson.dumps({"captureData": both, "eventMetadata": about, "eventVersion": "0"})


def test_lines_of_sagemakers_data_capture(tmp_path: Path) -> None:
    lines = [
        captured("csv", ("CSV", '39,"a,b",0.5\n50,1_0,'), ("CSV", "0.25\n0.75\n"), "text/csv"),
        captured("untold", ("BASE64", b64encode(b"40,c,1").decode()), ("BASE64", "MC4x"), "text/csv; charset=utf-8"),
        captured("large", ("CSV", "a" * 200_000), ("CSV", "0.5"), "text/csv"),
        captured("json", ("JSON", '{"instances": [[1, "x", 2.5]]}'), ("JSON", '{"predictions": [0.5]}'), "text/json"),
        captured("base64", ("BASE64", b64encode(b'{"instances": [[2]]}').decode()), ("BASE64", ""), "text/json"),
    ]
    assert run(tmp_path / "log", written(tmp_path / "a.jsonl", b"\n".join(lines))) == 0
    frame = inferwatch.payloads("default/income", data=tmp_path / "log")
    wide = frame[frame["id"] != "base64"][["id", "instances[0]", "instances[1]", "instances[2]", "prediction"]]
    assert [[None if cell != cell else cell for cell in row] for row in wide.values.tolist()] == [
        ["csv", 39, "a,b", 0.5, 0.25],
        ["csv", 50, "1_0", None, 0.75],
        ["untold", 40, "c", 1, 0.1],
        ["large", "a" * 200_000, None, None, 0.5],
        ["json", 1, "x", 2.5, 0.5],
    ]
    assert [event.data for event in stored(tmp_path / "log")][-2:] == [b'{"instances": [[2]]}', b""]


def test_whole_numbers_of_a_table_stay_whole(tmp_path: Path) -> None:
    table = b"id,order,sum\n7,1152921504606846977,9007199254740993\n8,1152921504606846978,\n"
    assert run(tmp_path / "log", written(tmp_path / "table.csv", table)) == 0
    frame = inferwatch.payloads("default/income", data=tmp_path / "log")
    assert frame[["id", "order"]].values.tolist() == [["7", 2**60 + 1], ["8", 2**60 + 2]]
    assert frame["sum"].tolist() == [2**53 + 1, None]


def test_a_plain_table(tmp_path: Path) -> None:
    table = b"id,time,age,work,prediction\nx,2026-11-21T10:00:00Z,39,Private,1\ny,2026-11-21 10:00:01,50,,0\n"
    assert run(tmp_path / "log", written(tmp_path / "table.csv", table)) == 0
    frame = inferwatch.payloads("default/income", data=tmp_path / "log")
    cells = frame[["id", "age", "work", "prediction"]].values.tolist()
    assert [[None if cell != cell else cell for cell in row] for row in cells] == [
        ["x", 39, "Private", 1],
        ["y", 50, None, 0],
    ]
    assert [format_time(event.time_ns or 0) for event in stored(tmp_path / "log")][1:3] == [
        "2026-11-21T10:00:00Z",
        "2026-11-21T10:00:01Z",
    ]


def test_an_array_has_neither_names_nor_times(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([[1.5, 2.0], [3.0, np.nan]]))
    os.utime(tmp_path / "rows.npy", ns=(FILE_TIME_NS, FILE_TIME_NS))
    assert run(tmp_path / "log", tmp_path / "rows.npy") == 0
    events = stored(tmp_path / "log")
    assert [(event.id, event.time_ns) for event in events] == [
        ("rows.npy-0", FILE_TIME_NS),
        ("rows.npy-1", FILE_TIME_NS + 1),
    ]
    assert events[1].data == b'{"instances":[{"feature_0":3.0,"feature_1":null}]}'


def test_what_is_no_event_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [record("request", {}, id=""), record("request", {}, bytes="?"), 5, *PAIR, {"captureData": {}}]
    assert run(tmp_path / "log", written(tmp_path / "a.json", orjson.dumps(bad))) == 0
    said = capsys.readouterr().out
    assert "2 events stored, 0 there already, 4 malformed (missing_attribute: 2, bad_base64: 1, bad_json: 1" in said
    with JournalReader(tmp_path / "log") as reader:
        ledger = reader.ledger()
    assert ledger.received == 6
    assert ledger.malformed == {"missing_attribute": 2, "bad_base64": 1, "bad_json": 1}


def test_rules_of_a_configuration_are_applied(tmp_path: Path) -> None:
    config = tmp_path / "inferwatch.yaml"
    config.write_text('payload_log: {redact: ["$.instances[*].age"]}\nexclude: [{component: predictor}]\n')
    file = FORMATS["array.json"](tmp_path / "array.json")
    assert run(tmp_path / "log", file, options=("--config", str(config))) == 0
    assert orjson.loads(stored(tmp_path / "log")[0].data) == {"instances": [{"age": None}, {"age": None}]}
    assert set(inferwatch.payloads("default/income", data=tmp_path / "log")["excluded"]) == {"rule"}


@pytest.mark.parametrize("name", ["income", "*"])
def test_positions_bear_the_names_of_a_configuration_that_learns_its_reference_later(tmp_path: Path, name: str) -> None:
    config = tmp_path / "inferwatch.yaml"
    features = "[{name: age, kind: numeric}, {name: job, kind: categorical}]"
    config.write_text(f"models: [{{name: '{name}', reference: {{logged: {{first: 1000}}}}, features: {features}}}]\n")
    records = [record("request", {"instances": [[39, "x"]]}), record("response", {"predictions": [0]})]
    records = [each | {"namespace": "default", "inferenceService": "income"} for each in records]
    file = written(tmp_path / "a.json", orjson.dumps(records))
    assert run(tmp_path / "plain", file) == 0
    assert "instances[1]" in inferwatch.payloads("default/income", data=tmp_path / "plain")
    assert run(tmp_path / "log", file, options=("--config", str(config))) == 0
    frame = inferwatch.payloads("default/income", data=tmp_path / "log")
    assert frame[["age", "job"]].values.tolist() == [[39, "x"]]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.txt", b"", "has an unknown ending; read are .csv, .json"),
        ("a.json", b'{"a": 1}', "holds neither KServe's records nor SageMaker's lines"),
        ("a.json", b"[]", "holds no payloads"),
        ("a.json", b"{", "holds no payloads (record 0: is no object)"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.csv", b"id,reqType,bytes\n\xff,a,b\n", "cannot be read"),
        ("a.csv", b"id,time,a\nx,yesterday,1\n", "holds no payloads (time: of row 0"),
        ("a.csv", b"", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_payloads(
    tmp_path: Path, name: str, data: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "log", written(tmp_path / name, data)) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_what_is_wrongly_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = FORMATS["array.json"](tmp_path / "array.json")
    assert run(tmp_path / "log", file, model="income") == 2
    assert run(tmp_path / "log") == 2
    assert run(tmp_path / "log", tmp_path / "absent.json", file, tmp_path) == 2
    assert f"files: {tmp_path / 'absent.json'} is no file\n" in capsys.readouterr().err
    assert not (tmp_path / "log").exists()


def test_a_log_that_is_open_or_behind_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, data = FORMATS["array.json"](tmp_path / "array.json"), tmp_path / "log"
    with Journal.open(data) as journal:
        assert run(data, file) == 1
        assert "in use by another process" in capsys.readouterr().err
        journal.append([CloudEvent("live", "a", REQUEST_TYPE)]).result(timeout=30)
    assert run(data, file) == 1
    assert "not yet judged" in capsys.readouterr().err
    assert [event.id for event in stored(data)] == ["live"]
