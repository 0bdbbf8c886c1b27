"""A predictor over gRPC: what is asked, and what becomes of its faults."""

from __future__ import annotations

import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from inferwatch.errors import MissingExtra, PredictorError, PredictorTimeout
from inferwatch.events import EXPLAIN_ID_PREFIX, Role
from inferwatch.rows import Feature, Rows, Schema
from inferwatch.wire.decode import decode
from inferwatch_explainers.grpc_predictor import beside
from inferwatch_explainers.predictor import RemotePredictor
from inferwatch_explainers.request_form import RequestForm
from inferwatch_explainers.ways import fastest
from tests.certificates import authority, signed
from tests.explainers.servers import ModelServer
from tests.explainers.servers import serving as serving_http

grpc = pytest.importorskip("grpc")

SCHEMA = Schema((Feature("age", "numeric"), Feature("work", "categorical", ("Private", "State", "Österreich"))))
ROWS = np.array([[39.0, 0.0], [-61.5, 2.0]])

Answer = Callable[[Rows, Any], bytes]


def outputs(values: Any) -> bytes:
    """Return a ModelInferResponse of FP64 `values`, of the model's version 7."""
    raw = struct.pack(f"<{len(values)}d", *values)
    count = varint(len(values))
    tensor = b"\x0a\x01o" + b"\x12\x04FP64" + b"\x1a" + varint(len(count)) + count
    return b"\x12\x017" + b"\x2a" + varint(len(tensor)) + tensor + b"\x32" + varint(len(raw)) + raw


def varint(value: int) -> bytes:
    """Return a number as protobuf has it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


class Server:
    """Answers ModelInfer as each test says, and notes what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[Rows, Mapping[str, str]]] = []

    def service(self, call: Any) -> Any:
        if call.method != "/inference.GRPCInferenceService/ModelInfer":
            return None
        return grpc.unary_unary_rpc_method_handler(self._reply)

    def _reply(self, message: bytes, context: Any) -> bytes:
        rows = decode(b"\0" + len(message).to_bytes(4, "big") + message, Role.REQUEST).rows
        assert rows is not None
        self.asked.append((rows, dict(context.invocation_metadata())))
        return self.answer(rows, context)


def sums(rows: Rows, _: Any) -> bytes:
    return outputs([float(age) for age in rows.columns[0].values])


@contextmanager
def serving(answer: Answer, credentials: Any = None) -> Iterator[tuple[Server, str]]:
    fake = Server(answer)
    server = grpc.server(ThreadPoolExecutor(4), handlers=(fake,))
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield fake, f"{'https' if credentials else 'http'}://127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)


@pytest.mark.parametrize(
    ("http", "found"),
    [("http://h", "http://h:8081"), ("https://h:443/m", "https://h:8081"), ("http://[::1]:8000", "http://[::1]:8001")],
)
def test_grpc_is_looked_for_where_model_servers_have_it_beside_http(http: str, found: str) -> None:
    assert beside(http) == found


def test_auto_takes_grpc_at_the_port_it_is_told_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = [0.0]

    def slow(rows: Any) -> Any:
        spent[0] += 0.1
        return rows[:, 0]

    monkeypatch.setattr("inferwatch_explainers.predictor.fastest", partial(fastest, clock=lambda: spent[0]))
    monkeypatch.setattr("inferwatch_explainers.ways._PATIENCE_S", 60.0)  # a slow machine takes its time
    monkeypatch.setattr("inferwatch_explainers.ways._FIRST_CONTACT_S", 60.0)
    many = np.repeat(ROWS, 5000, axis=0)
    http = ModelServer(SCHEMA, slow, ("v2",))
    with (
        serving(lambda rows, _: outputs(list(rows.columns[0].values))) as (server, address),
        serving_http(http.application()) as url,
        RemotePredictor(url, "m", SCHEMA, grpc_port=urlsplit(address).port) as predict,
    ):
        assert predict(many).tolist() == many[:, 0].tolist()
        [way] = predict._remote.ways.values()
    assert (way.dialect, server.asked[-1][0].count) == ("grpc", 10_000)
    assert "v2 took" in way.why


def asking(url: str, **options: Any) -> RemotePredictor:
    return RemotePredictor(url, "größe/m", SCHEMA, protocol="grpc", **options)


def test_rows_go_as_raw_tensors_with_the_mark_and_the_callers_authorization() -> None:
    with serving(sums) as (server, url), asking(url) as predict:
        bound = predict._remote.bind(RequestForm.plain(SCHEMA), headers={"Authorization": "Bearer me"})
        assert bound(ROWS).tolist() == [39.0, -61.5]
        assert predict._remote.version == "7"
    [(rows, metadata)] = server.asked
    assert [column.name for column in rows.columns] == ["age", "work"]
    assert [str(cell) for cell in rows.columns[1].values] == ["Private", "Österreich"]
    assert metadata["ce-id"].startswith(EXPLAIN_ID_PREFIX)
    assert (metadata["x-inferwatch-origin"], metadata["authorization"]) == ("explain", "Bearer me")


@pytest.mark.parametrize(
    ("code", "details", "says"),
    [
        ("INVALID_ARGUMENT", "bad shape", "answered 400: INVALID_ARGUMENT: bad shape"),
        ("UNAUTHENTICATED", "no token", "answered 401: UNAUTHENTICATED: no token"),
        ("INTERNAL", "ValueError : boom", "answered 500: INTERNAL: ValueError : boom"),
        ("UNAVAILABLE", "starting", "answered 503: UNAVAILABLE: starting"),
    ],
)
def test_a_fault_of_the_server_is_told_with_its_code(code: str, details: str, says: str) -> None:
    def refuse(_: Rows, context: Any) -> bytes:
        context.abort(grpc.StatusCode[code], details)
        raise AssertionError

    with serving(refuse) as (server, url), asking(url) as predict, pytest.raises(PredictorError, match=says):
        predict(ROWS)
    assert len(server.asked) == (3 if code == "UNAVAILABLE" else 1)


def test_a_reply_that_is_none_a_server_that_is_slow_and_one_that_is_not_there() -> None:
    for said, fault in ((b"\xff\xff", "answered no predictions"), (outputs([1.0]), "for 2 rows and answered 1")):
        with (
            serving(lambda *_, said=said: said) as (_, url),
            asking(url) as predict,
            pytest.raises(PredictorError, match=fault),
        ):
            predict(ROWS)

    given_up = threading.Event()

    def slow(rows: Rows, context: Any) -> bytes:
        given_up.wait(30)
        return sums(rows, context)

    with serving(slow) as (_, url), asking(url, timeout_s=0.1) as predict:
        with pytest.raises(PredictorTimeout):
            predict(ROWS)
        given_up.set()
    with asking(url) as predict, pytest.raises(PredictorError, match="answered 503: UNAVAILABLE"):
        predict(ROWS)
    with serving(sums) as (_, there), asking(url, other_url=there) as predict:
        assert len(predict(ROWS)) == 2


def test_calls_shrink_to_what_the_server_takes() -> None:
    def picky(rows: Rows, context: Any) -> bytes:
        if rows.count > 2:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 8)")
        return sums(rows, context)

    with serving(picky) as (_, url), asking(url) as predict:
        assert predict(np.repeat(ROWS, 4, axis=0)).tolist() == [39.0] * 4 + [-61.5] * 4


def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = authority(tmp_path, "ca")
    certificate, key = signed(tmp_path, "server", "ca")
    pair = (key.read_bytes(), certificate.read_bytes())
    with serving(sums, grpc.ssl_server_credentials([pair])) as (_, url):
        with asking(url) as predict, pytest.raises(PredictorError, match="503"):
            predict(ROWS)
        monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(trusted))
        with asking(url) as predict:
            assert len(predict(ROWS)) == 2


def test_without_grpcio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc.aio", None)
    with pytest.raises(MissingExtra, match=r"inferwatch\[grpc-predictor\]"):
        asking("http://h")
