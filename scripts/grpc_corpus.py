"""Writes messages of KServe's own protobuf classes as they cross the wire, with what they hold, for the tests.

Runs in the environment of the demo: `.venvs/demo/bin/python scripts/grpc_corpus.py tests/core/wire/grpc_corpus.json`.
"""

import json
import sys
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferResponse.InferOutputTensor
Contents = pb.InferTensorContents

LARGE = [2**53 + 1, -(2**63)]
EVERY: dict[str, tuple[str, str, list[Any]]] = {
    "b": ("BOOL", "bool_contents", [True, False, True]),
    "i8": ("INT8", "int_contents", [-128, 0, 127]),
    "i16": ("INT16", "int_contents", [-(2**15), 0, 2**15 - 1]),
    "i32": ("INT32", "int_contents", [-(2**31), 300, 2**31 - 1]),
    "u8": ("UINT8", "uint_contents", [0, 128, 255]),
    "u16": ("UINT16", "uint_contents", [0, 128, 2**16 - 1]),
    "u32": ("UINT32", "uint_contents", [0, 128, 2**32 - 1]),
    "u64": ("UINT64", "uint64_contents", [0, 128, 2**64 - 1]),
    "f32": ("FP32", "fp32_contents", [0.5, -1.25, 3.0]),
}


def framed(message: Any, flag: int = 0, squeeze: Callable[[bytes], bytes] = bytes) -> bytes:
    data = squeeze(message.SerializeToString())
    return bytes([flag]) + len(data).to_bytes(4, "big") + data


def compressed(data: bytes) -> bytes:
    """Return gzip of it, the same from every Python."""
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(data) + packer.flush()


def gzipped(message: Any) -> bytes:
    return framed(message, 1, compressed)


def typed_request() -> Any:
    text = Input(name="t", datatype="BYTES", shape=[2], contents=Contents(bytes_contents=["é".encode(), b""]))
    text.parameters["content_type"].string_param = "str"
    return pb.ModelInferRequest(
        model_name="income",
        model_version="1",
        id="a-1",
        inputs=[
            Input(name="x", datatype="FP64", shape=[2, 2], contents=Contents(fp64_contents=[0.1, -1.5, 2.5, 1e300])),
            Input(name="n", datatype="INT64", shape=[2, 1], contents=Contents(int64_contents=LARGE)),
            text,
        ],
        parameters={"deadline": pb.InferParameter(int64_param=-5)},
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="y")],
    )


def sdk_input(name: str, values: Any, datatype: str, *, raw: bool = True) -> InferInput:
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=raw)
    return tensor


def inferences() -> Iterator[tuple[str, str, bytes, dict[str, list[Any]]]]:
    """Yield the case, the role, the body and its columns."""
    typed = typed_request()
    columns = {"x[0]": [0.1, 2.5], "x[1]": [-1.5, 1e300], "n": LARGE, "t": ["é", ""]}
    yield "typed", "request", framed(typed), columns
    yield "typed, no frame", "request", typed.SerializeToString(), columns
    yield "typed, gzip", "request", gzipped(typed), columns
    yield "typed, deflate", "request", framed(typed, 1, zlib.compress), columns

    tensors = [
        Input(name=name, datatype=datatype, shape=[3], contents=Contents(**{kind: values}))
        for name, (datatype, kind, values) in EVERY.items()
    ]
    every = {name: values for name, (_, _, values) in EVERY.items()}
    yield "every typed content", "request", framed(pb.ModelInferRequest(model_name="m", inputs=tensors)), every

    inputs = [
        sdk_input("x", np.array([[0.5, -1], [2, 3]], np.float32), "FP32"),
        sdk_input("h", np.array([0.5, 65504], np.float16), "FP16"),
        sdk_input("t", np.array([b"ab", b"\xff\x00"], object), "BYTES"),
    ]
    columns = {"x[0]": [0.5, 2.0], "x[1]": [-1.0, 3.0], "h": [0.5, 65504.0]}
    columns |= {"t": [{"base64": b64encode(cell).decode()} for cell in (b"ab", b"\xff\x00")]}
    yield "raw, as the SDK writes it", "request", framed(InferRequest("m", inputs).to_grpc()), columns
    inputs = [sdk_input("x", np.array([[0.5, -1.0]]), "FP64", raw=False)]
    yield (
        "typed, as the SDK writes it",
        "request",
        framed(InferRequest("m", inputs).to_grpc()),
        {
            "x[0]": [0.5],
            "x[1]": [-1.0],
        },
    )

    values = Contents(fp32_contents=[0.25, 0.75, 1, 0])
    answer = pb.ModelInferResponse(outputs=[Output(name="y", datatype="FP32", shape=[2, 2], contents=values)])
    columns = {"y[0]": [0.25, 1.0], "y[1]": [0.75, 0.0]}
    yield "typed reply", "response", framed(answer), columns
    answer.model_name, answer.id = "income", "a-1"
    yield "typed reply, no frame", "response", answer.SerializeToString(), columns
    twice = {name: cells + cells for name, cells in columns.items()}
    yield "two replies of a stream", "response", framed(answer) + gzipped(answer), twice

    output = InferOutput("y", [2], "INT64")
    output.set_data_from_numpy(np.array([7, -7]), binary_data=True)
    raw = InferResponse("a-2", "income", [output]).to_grpc()
    yield "raw reply, as the SDK writes it", "response", framed(raw), {"y": [7, -7]}


def other_calls() -> Iterator[tuple[str, str, bytes, None]]:
    """Yield calls that hold no rows."""
    tensor = pb.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 4])
    named = pb.ModelMetadataResponse(name="income", versions=["1"], platform="sklearn")
    described = pb.ModelMetadataResponse(name="income", platform="sklearn", inputs=[tensor], outputs=[tensor])
    for case, role, message in (
        ("live", "request", pb.ServerLiveRequest()),
        ("live reply", "response", pb.ServerLiveResponse(live=True)),
        ("not live reply", "response", pb.ServerLiveResponse(live=False)),
        ("model ready", "request", pb.ModelReadyRequest(name="income", version="1")),
        ("model ready reply", "response", pb.ModelReadyResponse(ready=True)),
        ("server metadata reply", "response", pb.ServerMetadataResponse(name="kserve", extensions=["a", "b"])),
        ("model metadata", "request", pb.ModelMetadataRequest(name="income")),
        ("model metadata reply", "response", described),
        ("model metadata reply without tensors", "response", named),
    ):
        yield case, role, framed(message), None


if __name__ == "__main__":
    corpus = [
        {"case": case, "role": role, "body": b64encode(body).decode(), "columns": columns}
        for case, role, body, columns in (*inferences(), *other_calls())
    ]
    Path(sys.argv[1]).write_text(json.dumps(corpus, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
