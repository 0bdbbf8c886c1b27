"""Messages that KServe's own protobuf classes wrote (`scripts/grpc_corpus.py`), and others that nobody should write."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.errors import UndecodablePayload
from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire.decode import Decoded, decode
from inferwatch.wire.grpc import MAX_FRAMES
from inferwatch.wire.protobuf import MAX_FIELDS, Reader, varints
from tests.core.wire.bodies import frame
from tests.memory import most_traced

CORPUS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("grpc_corpus.json").read_text(encoding="utf-8"))
BODIES = {case["case"]: b64decode(case["body"]) for case in CORPUS}


def plain(cell: Any) -> Any:
    return {"base64": b64encode(cell).decode()} if isinstance(cell, bytes) else cell


def cells(rows: Rows) -> dict[str, list[Any]]:
    return {column.name: [plain(cell) for cell in column.values.tolist()] for column in rows.columns}


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def text(number: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, datatype: str, shape: list[int], contents: bytes = b"", number: int = 5) -> bytes:
    sizes = b"".join(varint(size % 2**64) for size in shape)
    return text(number, text(1, name) + text(2, datatype) + text(3, sizes) + (text(5, contents) if contents else b""))


def reason(data: bytes, role: Role = Role.REQUEST, **more: Any) -> str:
    decoded = decode(data, role, **more)
    assert (decoded.protocol, decoded.rows) == ("unknown", None)
    return decoded.fault or ""


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["case"])
def test_what_the_kserve_sdk_writes(case: dict[str, Any]) -> None:
    decoded = decode(b64decode(case["body"]), Role[case["role"].upper()])
    if case["columns"] is None:
        assert decoded == Decoded("health")
    else:
        assert (decoded.protocol, decoded.fault) == ("grpc", None)
        assert decoded.rows is not None
        assert cells(decoded.rows) == case["columns"]


def test_typed_and_raw_contents_have_the_type_of_the_tensor() -> None:
    rows = decode(BODIES["every typed content"], Role.REQUEST).rows
    assert rows is not None
    kinds = [column.values.dtype.name for column in rows.columns]
    assert kinds == ["bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64", "float32"]


def test_raw_contents_are_views_of_the_body() -> None:
    values = np.arange(6, dtype="<f4")
    data = frame(tensor("x", "FP32", [2, 3]) + text(7, values.tobytes()))
    rows = decode(data, Role.REQUEST).rows
    assert rows is not None
    assert all(np.shares_memory(column.values, np.frombuffer(data, np.uint8)) for column in rows.columns)


def test_numbers_that_are_not_packed() -> None:
    contents = b"".join(varint(2 << 3) + varint(value % 2**64) for value in (-1, 300))
    unpacked = text(5, text(1, "x") + text(2, "INT16") + varint(3 << 3) + b"\x02" + text(5, contents))
    rows = decode(frame(unpacked), Role.REQUEST).rows
    assert rows is not None
    assert cells(rows) == {"x": [-1, 300]}


def test_a_tensor_whose_contents_come_in_parts() -> None:
    parts = text(5, text(6, np.float32(0.5).tobytes())) + text(5, text(6, np.float32(1.5).tobytes()))
    rows = decode(frame(text(5, text(2, "FP32") + text(3, b"\x02") + parts)), Role.REQUEST).rows
    assert rows is not None
    assert cells(rows) == {"": [0.5, 1.5]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\0", "broken"),
        (b"\0\0\0\0", "broken"),
        (b"\0\0\0\0\x09hello", "states 9 bytes, and 5 are there"),
        (b"\0\xff\xff\xff\xffhello", "states 4294967295 bytes"),
        (frame(b"hello"), "wire type"),
        (frame(b"\x0b"), "wire type 3"),
        (frame(b"\x00\x00"), "no number"),
        (frame(b"\x0a\x05abc"), "cut"),
        (frame(b"\x0d\0"), "cut"),
        (frame(b"\x80"), "varint is cut"),
        (frame(b"\xff" * 11), "varint is cut, or longer"),
        (frame(b"") + b"\x02", "broken"),
        (frame(b"abc", 1), "codec other than gzip"),
        (frame(b"", 1), "codec other than gzip"),
        (frame(gzip.compress(BODIES["typed"], mtime=0)[:-9], 1), "ends before its end"),
        (frame(zlib.compress(b"hello" * 9)[:-3] + b"abc", 1), "broken"),
        (frame(text(8, "x")), "no ModelInfer"),
        (frame(varint(2 << 3) + b"\x01"), "no ModelInfer"),
        (frame(tensor("x", "FP32", [1])), "has the shape [1] and 0 values"),
        (frame(tensor("x", "FP32", [-1])), "no list of sizes"),
        (frame(tensor("x", "FP32", [2**62, 2**62])), "and 0 values"),
        (frame(tensor("x", "FP32", [1] * 65)), "65 dimensions"),
        (frame(tensor("x", "FP99", [1])), "unknown datatype"),
        (frame(tensor("x", "FP16", [1], text(6, b"\0\0\0\0"))), "has no raw contents"),
        (frame(tensor("x", "FP32", [1], text(6, b"\0\0\0"))), "no whole number"),
        (frame(tensor("x", "INT8", [1], text(2, varint(128)))), "INT8 does not hold"),
        (frame(tensor("x", "UINT8", [1], text(4, varint(256)))), "UINT8 does not hold"),
        (frame(tensor("x", "INT8", [1], text(2, b"\x80"))), "varint is cut"),
        (frame(tensor("x", "INT8", [1]) + tensor("x", "INT8", [1])), "same name"),
        (frame(tensor("x", "INT8", [1]) + text(7, b"a") + text(7, b"b")), "1 tensors and 2 raw contents"),
        (frame(text(5, text(1, b"\xff"))), "no UTF-8"),
        (frame(b"") * (MAX_FRAMES + 1), "more than"),
        (frame(text(1, "m") * (MAX_FIELDS + 1)), "too many fields"),
        (BODIES["typed"] + frame(tensor("z", "INT8", [1], text(2, b"\x01"))), "different columns"),
    ],
)
def test_what_is_unknown_says_why(data: bytes, says: str) -> None:
    assert says in reason(data)


def test_compressed_frames_are_undone_up_to_a_bound_for_all_of_them() -> None:
    bomb = frame(gzip.compress(bytes(1000)), 1)
    assert "larger than 999 bytes" in reason(bomb, max_inflated_bytes=999)
    assert "larger than 500 bytes" in reason(
        frame(gzip.compress(text(1, "a" * 498)), 1) + bomb, max_inflated_bytes=1001
    )


def test_columns_that_would_fill_memory() -> None:
    with most_traced(100e6):
        assert "more than 65536 columns" in reason(
            frame(b"".join(tensor(str(n), "INT8", [0, 4096]) for n in range(1000)))
        )


def test_a_frame_cut_anywhere_is_unknown() -> None:
    whole = BODIES["raw, as the SDK writes it"]
    for end in range(1, len(whole)):
        assert "are there" in reason(whole[:end])


def test_a_bare_message_that_fails_says_why() -> None:
    assert "has the shape [2] and 0 values" in reason(text(1, "model") + tensor("x", "FP32", [2]))
    assert "no JSON" in reason(text(1, "model"))
    assert "no JSON" in reason(b"\n{'a'")


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_varints_are_read_as_they_are_written(values: list[int]) -> None:
    assert varints(b"".join(map(varint, values))).tolist() == values


def test_many_varints_are_read_in_blocks() -> None:
    values = [2**64 - 1, 5, 300] * 20_000
    assert varints(b"".join(map(varint, values))).tolist() == values
    with pytest.raises(UndecodablePayload, match="cut"):
        varints(b"\x01" * 70_000 + b"\x80" * 70_000)


@settings(max_examples=200)
@given(st.data(), st.sampled_from([case for case in CORPUS if case["columns"]]))
def test_damage_never_raises(data: st.DataObject, case: dict[str, Any]) -> None:
    body = bytearray(b64decode(case["body"]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert decode(bytes(body), Role[case["role"].upper()]).protocol in {"grpc", "health", "unknown"}


@given(st.binary(max_size=60), st.sampled_from(list(Role)))
def test_no_message_raises(data: bytes, role: Role) -> None:
    assert decode(frame(data), role).protocol in {"grpc", "health", "unknown"}
    assert decode(frame(text(5, data)), role).protocol in {"grpc", "health", "unknown"}


def test_fields_are_read_as_they_are_written() -> None:
    message = (
        text(1, b"ab")
        + varint(3 << 3)
        + varint(300)
        + varint(4 << 3 | 5)
        + b"1234"
        + varint(700 << 3 | 1)
        + b"12345678"
    )
    read = [(number, wire, bytes(value)) for number, wire, value in Reader().fields(memoryview(message))]
    assert read == [(1, 2, b"ab"), (3, 0, varint(300)), (4, 5, b"1234"), (700, 1, b"12345678")]
