"""OpenAI bodies as OpenAI's API reference and vLLM write them, whole and in chunks."""

from __future__ import annotations

import gzip
from base64 import b64encode
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire.columns import MAX_COLUMNS
from inferwatch.wire.decode import Decoded, decode

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
TOKENS = {name: [count] for name, count in USAGE.items()}
NO_TOKENS = {name: [None] for name in USAGE}
PLAIN = {"refusal": [None], "tool_calls": [0]}


def rows_of(body: Any, protocol: str, role: Role = Role.RESPONSE) -> Rows:
    decoded = decode(body if isinstance(body, bytes) else orjson.dumps(body), role)
    assert (decoded.protocol, decoded.fault) == (protocol, None)
    assert decoded.rows is not None
    return decoded.rows


def cells(rows: Rows) -> dict[str, list[Any]]:
    return {column.name: column.values.tolist() for column in rows.columns}


def reason(body: Any, role: Role = Role.RESPONSE) -> str:
    decoded = decode(body if isinstance(body, bytes) else orjson.dumps(body), role)
    assert (decoded.protocol, decoded.rows) == ("unknown", None)
    return decoded.fault or ""


def chunk(index: int = 0, reason: str | None = None, /, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def stream(*chunks: Any, between: str = "\n\n", end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {orjson.dumps(part).decode()}{between}" for part in chunks) + end).encode()


@pytest.mark.parametrize(
    ("body", "protocol", "columns"),
    [
        (
            {
                "model": "m",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hé?"}],
            },
            "openai_chat",
            {"model": ["m"], "prompt": ["Be brief.\nHé?"], "messages": [2], "images": [0]},
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "What is "}, {"type": "image_url"}, {"text": "this?"}],
                    },
                    {"role": "assistant", "content": None, "tool_calls": []},
                    {"role": "tool", "content": "a cat"},
                ]
            },
            "openai_chat",
            {"model": [None], "prompt": ["What is this?\na cat"], "messages": [3], "images": [1]},
        ),
        ({"model": "m", "prompt": "Hi"}, "openai_completions", {"model": ["m"], "prompt": ["Hi"]}),
        ({"model": "m", "prompt": ["Hi", "Ho"]}, "openai_completions", {"model": ["m"], "prompt": ["Hi\nHo"]}),
        ({"model": "m", "prompt": [1, 2]}, "openai_completions", {"model": ["m"], "prompt": [[1, 2]]}),
        ({"model": "m", "input": "Hi"}, "openai_embeddings", {"model": ["m"], "input": ["Hi"]}),
        ({"model": "m", "input": ["a", "b"]}, "openai_embeddings", {"model": ["m", "m"], "input": ["a", "b"]}),
        ({"model": "m", "input": [1, 2]}, "openai_embeddings", {"model": ["m"], "input": [[1, 2]]}),
        ({"model": "m", "input": [[1, 2], [3]]}, "openai_embeddings", {"model": ["m", "m"], "input": [[1, 2], [3]]}),
    ],
)
def test_requests(body: dict[str, Any], protocol: str, columns: dict[str, list[Any]]) -> None:
    assert cells(rows_of(body, protocol, Role.REQUEST)) == columns


def test_a_chat_completion() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hé!"}, "finish_reason": "stop", "logprobs": None}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    assert cells(rows_of(body, "openai_chat")) == {"completion": ["Hé!"], "finish_reason": ["stop"]} | TOKENS | PLAIN


def test_a_call_of_a_tool_is_no_text() -> None:
    choice = {"index": 0, "message": {"content": None, "tool_calls": [{"id": "t"}]}, "finish_reason": "tool_calls"}
    expected = {"completion": [None], "finish_reason": ["tool_calls"]} | NO_TOKENS | PLAIN | {"tool_calls": [1]}
    assert cells(rows_of({"object": "chat.completion", "choices": [choice]}, "openai_chat")) == expected


def test_calls_of_tools_in_chunks_are_counted() -> None:
    def call(index: int, arguments: str) -> dict[str, Any]:
        return chunk(tool_calls=[{"index": index, "function": {"arguments": arguments}}])

    data = stream(
        chunk(role="assistant", content=None), call(0, "{"), call(0, "}"), call(1, "{}"), chunk(0, "tool_calls")
    )
    expected = {"completion": [None], "finish_reason": ["tool_calls"]} | NO_TOKENS | PLAIN | {"tool_calls": [2]}
    assert cells(rows_of(data, "openai_chat")) == expected


def test_a_refusal_is_no_completion() -> None:
    choice = {"index": 0, "message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}
    expected = {"completion": [None], "finish_reason": ["stop"]} | NO_TOKENS | PLAIN | {"refusal": ["I cannot."]}
    assert cells(rows_of({"object": "chat.completion", "choices": [choice]}, "openai_chat")) == expected
    parts = [chunk(refusal="I "), chunk(0, "stop", refusal="cannot.")]
    assert cells(rows_of(stream(*parts), "openai_chat")) == expected


def test_a_chunk_whose_error_is_null_is_none() -> None:
    expected = {"completion": ["a"], "finish_reason": [None]} | NO_TOKENS | PLAIN
    assert cells(rows_of(stream(chunk(content="a") | {"error": None}), "openai_chat")) == expected


def test_several_choices_in_any_order() -> None:
    choices = [
        {"index": 2, "text": "c"},
        {"index": 0, "text": "a", "finish_reason": "length"},
        {"index": 1, "text": "b"},
    ]
    body = {"object": "text_completion", "choices": choices, "usage": USAGE}
    texts = {"completion_1": ["b"], "completion_2": ["c"]}
    assert (
        cells(rows_of(body, "openai_completions"))
        == {"completion": ["a"], "finish_reason": ["length"]} | TOKENS | texts
    )
    del body["object"]
    assert rows_of(body, "openai_completions").count == 1


@pytest.mark.parametrize("between", ["\n\n", "\r\n\r\n", "\r\r", "\n"])
def test_a_chat_in_chunks(between: str) -> None:
    parts = [chunk(role="assistant", content=""), chunk(content="H"), chunk(content="é\n"), chunk(content="data: x")]
    usage = {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    data = stream(*parts, chunk(0, "stop"), usage, between=between)
    expected = {"completion": ["Hé\ndata: x"], "finish_reason": ["stop"]} | TOKENS | PLAIN
    assert cells(rows_of(data, "openai_chat")) == expected
    assert cells(rows_of(gzip.compress(data), "openai_chat")) == expected
    assert cells(rows_of(b"\xef\xbb\xbf" + data, "openai_chat")) == expected


def test_chunks_of_several_choices_interleave() -> None:
    data = stream(
        chunk(1, content="x"), chunk(0, content="a"), chunk(1, content="y"), chunk(0, "stop", content="b"), end=""
    )
    expected = {"completion": ["ab"], "finish_reason": ["stop"]} | NO_TOKENS | PLAIN | {"completion_1": ["xy"]}
    assert cells(rows_of(data, "openai_chat")) == expected


def test_completions_in_chunks() -> None:
    parts = [{"object": "text_completion", "choices": [{"index": 0, "text": text}]} for text in "abc"]
    data = b"\xef\xbb\xbf: ping\n\nevent: message\nid: 1\n" + stream(*parts)
    assert cells(rows_of(data, "openai_completions")) == {"completion": ["abc"], "finish_reason": [None]} | NO_TOKENS


def test_embeddings_are_one_row_an_input() -> None:
    data = [{"index": 1, "embedding": [0.5, 1]}, {"index": 0, "embedding": [0.25, 2.5]}]
    assert cells(rows_of({"object": "list", "data": data, "usage": {}}, "openai_embeddings")) == {
        "embedding[0]": [0.25, 0.5],
        "embedding[1]": [2.5, 1],
    }


def test_embeddings_in_base64_are_exact_to_the_bit() -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 8)).astype("<f4")
    items = [
        {"index": index, "embedding": b64encode(vector.tobytes()).decode()} for index, vector in enumerate(vectors)
    ]
    rows = rows_of({"object": "list", "data": items}, "openai_embeddings")
    np.testing.assert_array_equal(np.column_stack([column.values for column in rows.columns]), vectors)


@pytest.mark.parametrize("as_base64", [True, False])
def test_vectors_too_long_for_a_table_stay_whole(as_base64: bool) -> None:
    vector = np.arange(MAX_COLUMNS + 1, dtype="<f4")
    written = b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist()
    (column,) = rows_of({"data": [{"embedding": written}]}, "openai_embeddings").columns
    assert column.name == "embedding"
    assert list(column.values[0]) == vector.tolist()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"error": {"message": "boom", "code": 400}}, "the reply is an error"),
        ({"object": "chat.completion"}, "no known protocol"),
        ({"choices": []}, "no known protocol"),
        ({"object": ["x"], "choices": "y"}, "no known protocol"),
        ({"choices": [{"index": MAX_COLUMNS, "text": "a"}]}, "a choice has the index"),
        ({"choices": [{"index": "a", "text": "a"}]}, "a choice has the index a"),
        ({"data": [{"embedding": [1]}, {"embedding": [1, 2]}]}, "unequal length"),
        ({"data": [{"embedding": []}]}, "are empty"),
        ({"data": [{"embedding": "AAA="}]}, "no list of numbers"),
        ({"data": [{"embedding": 1}]}, "no list of numbers"),
        (b"data: [DONE]\n\n", "no known protocol"),
        (b": ping\n\n", "no known protocol"),
        (b'data: {"text_output": "a"}\n\n', "no known protocol"),
        (b"data: 5\n\n", "event 0 of the stream is an error, or no object"),
        (stream(chunk(content="a"), {"error": {"message": "boom"}}), "event 1 of the stream is an error"),
        (stream(chunk(content="a"), chunk(content="b"))[:-30], "event 1 of the stream is no JSON"),
    ],
)
def test_what_is_unknown_says_why(body: Any, says: str) -> None:
    assert says in reason(body)


def test_a_stream_of_too_many_values() -> None:
    assert "more than 250000 values" in reason(b"data: {}\n" * 250_001)


def test_requests_that_are_none() -> None:
    assert "fields: 'prompt'" in reason({"prompt": "no model"}, Role.REQUEST)
    assert "fields: 'messages'" in reason({"messages": []}, Role.REQUEST)
    assert "no JSON" in reason(stream(chunk(content="a")), Role.REQUEST)


def test_the_list_of_models_is_health() -> None:
    models = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": ""}]}
    assert decode(orjson.dumps(models), Role.RESPONSE) == Decoded("health")


JSON = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["index", "text", "message", "delta", "content", "embedding", "role"]), inner),
    max_leaves=8,
)
FIELDS = ["object", "choices", "usage", "data", "messages", "model", "prompt", "input", "error"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from(list(Role)), st.booleans())
def test_no_body_raises(body: dict[str, Any], role: Role, in_chunks: bool) -> None:
    data = stream(body, body) if in_chunks else orjson.dumps(body)
    known = {"openai_chat", "openai_completions", "openai_embeddings", "health", "unknown"}
    assert decode(data, role).protocol in known


@given(st.binary(max_size=60))
def test_no_stream_raises(data: bytes) -> None:
    assert decode(b"data: " + data, Role.RESPONSE).protocol == "unknown"
