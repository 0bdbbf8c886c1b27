"""Bodies of every protocol, in each form that servers and clients write: what tests damage, and fuzzing begins with."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from inferwatch.events import Role

CORPUS = Path(__file__).with_name("corpus")
"""Bodies that were once read wrongly, in a folder for each protocol that they were made from."""

GRPC_CORPUS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("grpc_corpus.json").read_text(encoding="utf-8"))

Body = tuple[Role, bytes]
ASKED, ANSWERED = Role.REQUEST, Role.RESPONSE
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any) -> dict[str, Any]:
    """Return a V2 tensor in JSON."""
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data}


def binary(field: str, *tensors: tuple[str, str, Any], **more: Any) -> bytes:
    """Return a V2 body whose tensors lie behind the JSON."""
    heads = [
        {"name": name, "shape": list(values.shape), "datatype": kind, "parameters": {"binary_data_size": values.nbytes}}
        for name, kind, values in tensors
    ]
    return orjson.dumps(more | {field: heads}) + b"".join(values.tobytes() for *_, values in tensors)


def sse(*chunks: Any, between: str = "\n\n") -> bytes:
    """Return a reply in chunks."""
    return "".join(f"data: {orjson.dumps(part).decode()}{between}" for part in chunks).encode() + b"data: [DONE]\n\n"


def frame(message: bytes, flag: int = 0) -> bytes:
    """Return a gRPC frame."""
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


def _json(body: Any, role: Role = ASKED) -> Body:
    return role, orjson.dumps(body)


def _chunk(delta: Mapping[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def _v1() -> list[Body]:
    return [
        _json({"instances": [[5.1, 3], [4.9, None]]}),
        _json({"instances": [{"age": 39, "work": "x"}, {"work": None}]}),
        _json({"instances": ["text", {"b64": "AP8="}, [1, [2]]]}),
        _json({"instances": [{"b64": "AP8="}]}),
        _json({"signature_name": "s", "inputs": {"a": [1, 2], "b": [[1.5], [2.5]]}}),
        (ASKED, b'{"instances": [NaN, -Infinity, 123456789012345678901, 9007199254740993]}'),
        _json({"specversion": "1.0", "id": "a", "data": {"instances": [[7, 8]]}}),
        _json({"predictions": [[0.25, 0.75]]}, ANSWERED),
        _json({"predictions": {"label": ["a", "b"], "p": [[1, 2], [3, 4]]}}, ANSWERED),
    ]


def _v2() -> list[Body]:
    inputs = [
        tensor("n", "INT64", [2], [2**53 + 1, None]),
        tensor("x", "FP32", [2, 2], [[0.5, 1], [2, 3]]),
        tensor("t", "BYTES", [2, 1], ["a", "é"]) | {"parameters": {"content_type": "base64"}},
        tensor("b", "BOOL", [2], [True, False]),
    ]
    return [
        _json({"id": "1", "parameters": None, "inputs": inputs}),
        _json({"inputs": [tensor("x", "FP64", [2, 2], [0.1, 2, 3, 4])]}),
        _json({"model_name": "m", "id": "1", "outputs": [tensor("output-0", "UINT8", [1], [7])]}, ANSWERED),
    ]


def _v2_binary() -> list[Body]:
    texts = np.frombuffer(b"\x01\0\0\0a\x02\0\0\0\xc3\xa9", np.uint8)
    words = binary("inputs", ("t", "BYTES", texts)).replace(b'"shape":[11]', b'"shape":[2]')
    halves = np.arange(4, dtype="<u2").reshape(2, 2)
    several = [("x", "FP64", np.arange(2.0)), ("h", "BF16", halves), ("b", "BOOL", np.array([1, 0], np.uint8))]
    return [
        (ASKED, words),
        (ASKED, binary("inputs", *several)),
        (ANSWERED, binary("outputs", ("y", "INT32", np.arange(3, dtype="<i4")), model_name="m")),
    ]


def _grpc() -> list[Body]:
    bodies = [(Role[case["role"].upper()], b64decode(case["body"])) for case in GRPC_CORPUS]
    message = next(b64decode(case["body"]) for case in GRPC_CORPUS if case["case"] == "typed")[5:]
    squeezed = [frame(gzip.compress(message, mtime=0), 1), frame(zlib.compress(message), 1), frame(b"\x28snappy", 1)]
    return [*bodies, *((ASKED, body) for body in squeezed)]


def _chat() -> list[Body]:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    call = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": "Hé!"}, "finish_reason": "stop"},
        {"index": 1, "message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"},
        {"index": 2, "message": {"content": None, "refusal": "No."}, "finish_reason": "stop"},
    ]
    calling = {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "look", "arguments": "{"}}]}
    more = {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}
    return [
        _json({"model": "m", "messages": asked, "n": 3}),
        _json({"object": "chat.completion", "model": "m", "choices": choices, "usage": USAGE}, ANSWERED),
        (ANSWERED, sse(_chunk({"role": "assistant"}), _chunk({"content": "H"}), _chunk({"content": "é"}, "stop"))),
        (ANSWERED, b": ping\r\n\r\n" + sse(_chunk(calling), _chunk(more, "tool_calls", 1), between="\r\n\r\n")),
    ]


def _completions() -> list[Body]:
    choices = [{"index": 1, "text": "b"}, {"index": 0, "text": "a", "finish_reason": "length"}]
    part = {"object": "text_completion", "choices": [{"index": 0, "text": "a"}]}
    return [
        _json({"model": "m", "prompt": ["Hi", "Ho"]}),
        _json({"model": "m", "prompt": [[1, 2], [3]]}),
        _json({"object": "text_completion", "choices": choices, "usage": USAGE}, ANSWERED),
        (ANSWERED, sse(part, part, {"object": "text_completion", "choices": [], "usage": USAGE})),
    ]


def _embeddings() -> list[Body]:
    written = b64encode(np.array([0.5, 1.5], "<f4").tobytes()).decode()
    vectors = [{"index": 1, "embedding": [0.5, 1]}, {"index": 0, "embedding": [0.25, 2]}]
    return [
        _json({"model": "m", "input": ["a", "b"]}),
        _json({"model": "m", "input": [1, 2]}),
        _json({"object": "list", "data": vectors, "usage": {}}, ANSWERED),
        _json({"object": "list", "data": [{"index": 0, "embedding": written}]}, ANSWERED),
    ]


BODIES: Mapping[str, Sequence[Body]] = {
    "v1": _v1(),
    "v2": _v2(),
    "v2_binary": _v2_binary(),
    "grpc": _grpc(),
    "openai_chat": _chat(),
    "openai_completions": _completions(),
    "openai_embeddings": _embeddings(),
    "gzip": [(role, gzip.compress(body, mtime=0)) for role, body in (*_v1()[:2], *_v2_binary()[:1], *_chat()[2:3])],
}
"""By what they are made from: the protocols, and compressed bodies of any."""
