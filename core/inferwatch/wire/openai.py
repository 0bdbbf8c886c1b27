"""The OpenAI protocol: chat, completions and embeddings, whole or as a stream of chunks.

Chats and completions are one row a payload. The request's columns are `model` and `prompt` (the texts of a chat's
messages, or of several prompts, a line break between two; prompts of tokens as they are), for a chat also `messages`
and `images`, their numbers. The response's are `completion`, `finish_reason`, `prompt_tokens`, `completion_tokens` and
`total_tokens`, None where it does not state one, for a chat also `refusal`, a text, and `tool_calls`, their number; of
several choices the first is the completion, the others are `completion_1`, ...

Embeddings are one row an input: `model` and `input`; then the vector, in columns `embedding[i]`.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson

from inferwatch.errors import UndecodablePayload
from inferwatch.events import Role
from inferwatch.rows import Column, Rows
from inferwatch.wire.columns import MAX_COLUMNS, positions, table, typed
from inferwatch.wire.numbers import Numbers
from inferwatch.wire.sse import DONE
from inferwatch.wire.tensors import Head, columns

CHAT: Final = "openai_chat"
COMPLETIONS: Final = "openai_completions"
EMBEDDINGS: Final = "openai_embeddings"

_OBJECTS: Final = {"chat.completion": CHAT, "chat.completion.chunk": CHAT, "text_completion": COMPLETIONS}
_TOKENS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(slots=True)
class _Choice:
    """What the model wrote, in the parts that it came in, and why it ended."""

    parts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls: set[object] = field(default_factory=set)
    finish_reason: str | None = None

    def extend(self, written: Mapping[str, Any]) -> None:
        """Take in a choice of a body, or of a chunk."""
        message = written.get("message") or written.get("delta")
        text = _text(message.get("content")) if isinstance(message, dict) else _text(written.get("text"))
        if text is not None:
            self.parts.append(text)
        if isinstance(message, dict):
            if isinstance(refusal := message.get("refusal"), str):
                self.refusals.append(refusal)
            calls = _objects(message.get("tool_calls"))  # in chunks a call comes in parts, which bear its index
            self.calls.update(str(call.get("index", place)) for place, call in enumerate(calls))
        reason = written.get("finish_reason")
        if isinstance(reason, str):
            self.finish_reason = reason

    @property
    def text(self) -> str | None:
        """The whole text; None where the model wrote none, as when it calls a tool."""
        return "".join(self.parts) if self.parts else None

    @property
    def refusal(self) -> str | None:
        """What the model wrote instead where it refused; None where it did not."""
        return "".join(self.refusals) if self.refusals else None


def protocol(body: Mapping[str, Any], role: Role) -> str | None:
    """Return which of the three protocols the body is of; None where it is of none."""
    if role is Role.RESPONSE:
        return _protocol_of_answer(body)
    if any("role" in message for message in _objects(body.get("messages"))):
        return CHAT
    if not isinstance(body.get("model"), str):
        return None
    if "prompt" in body:
        return COMPLETIONS
    return EMBEDDINGS if "input" in body else None


def lists_models(body: Mapping[str, Any]) -> bool:
    """Return whether the body is the list of the models that are served."""
    models = body.get("data")
    return (
        body.get("object") == "list"
        and isinstance(models, list)
        and all(isinstance(model, dict) and model.get("object") == "model" for model in models)
    )


def rows(body: Mapping[str, Any], kind: str, role: Role) -> Rows:
    """Return the rows of a body of that protocol. Raises `UndecodablePayload`."""
    if role is Role.REQUEST:
        return _inputs(body) if kind == EMBEDDINGS else _prompt(body, kind)
    if kind == EMBEDDINGS:
        return _vectors(_objects(body["data"]))
    choices: dict[int, _Choice] = {}
    _collect(choices, body)
    return _completion(choices, body.get("usage"), kind)


def stream(chunks: Iterable[bytes]) -> tuple[str, Rows]:
    """Return the protocol and the row of a reply in chunks, as if it had come whole. Raises `UndecodablePayload`."""
    kind, usage = None, None
    choices: dict[int, _Choice] = {}
    for number, chunk in enumerate(chunks):
        if chunk == DONE:
            continue
        body = _chunk(chunk, number)
        kind = kind or _protocol_of_answer(body)
        usage = body.get("usage") or usage
        _collect(choices, body)
    if kind not in (CHAT, COMPLETIONS):
        raise UndecodablePayload("the event stream is of no known protocol")
    return kind, _completion(choices, usage, kind)


def _protocol_of_answer(body: Mapping[str, Any]) -> str | None:
    stated = body.get("object")
    kind = _OBJECTS.get(stated) if isinstance(stated, str) else None
    choices = _objects(body.get("choices"))
    if kind is not None:
        return kind if "choices" in body else None
    if any("message" in choice or "delta" in choice for choice in choices):
        return CHAT
    if any("text" in choice for choice in choices):
        return COMPLETIONS
    return EMBEDDINGS if any("embedding" in item for item in _objects(body.get("data"))) else None


def _chunk(chunk: bytes, number: int) -> dict[str, Any]:
    try:
        body = orjson.loads(chunk)
    except orjson.JSONDecodeError as error:
        raise UndecodablePayload(f"event {number} of the stream is no JSON: {error}") from error
    if not isinstance(body, dict) or body.get("error"):
        raise UndecodablePayload(f"event {number} of the stream is an error, or no object")
    return body


def _collect(choices: dict[int, _Choice], body: Mapping[str, Any]) -> None:
    for position, written in enumerate(_objects(body.get("choices"))):
        index = written.get("index", position)
        if type(index) is not int or not 0 <= index < MAX_COLUMNS:
            raise UndecodablePayload(f"a choice has the index {str(index)[:16]}; from 0 to {MAX_COLUMNS - 1} are read")
        choices.setdefault(index, _Choice()).extend(written)


def _completion(choices: Mapping[int, _Choice], usage: Any, kind: str) -> Rows:  # noqa: ANN401 - any JSON
    counts = usage if isinstance(usage, dict) else {}
    first = choices.get(0, _Choice())
    cells: dict[str, Any] = {"completion": first.text, "finish_reason": first.finish_reason}
    cells |= {name: counts.get(name) for name in _TOKENS}
    if kind == CHAT:
        cells |= {"refusal": first.refusal, "tool_calls": len(first.calls)}
    return _row(cells | {f"completion_{index}": choices[index].text for index in sorted(choices) if index})


def _prompt(body: Mapping[str, Any], kind: str) -> Rows:
    cells: dict[str, Any] = {"model": body.get("model")}
    if kind == CHAT:
        messages = _objects(body["messages"])
        contents = [message.get("content") for message in messages]
        images = sum(_is_image(part) for content in contents for part in _objects(content))
        return _row(cells | {"prompt": _lines(contents), "messages": len(messages), "images": images})
    prompt = body["prompt"]
    is_text = isinstance(prompt, list) and prompt and all(isinstance(part, str) for part in prompt)
    return _row(cells | {"prompt": "\n".join(prompt) if is_text else prompt})


def _inputs(body: Mapping[str, Any]) -> Rows:
    inputs = _several(body["input"])
    return Rows((Column("model", typed([body["model"]] * len(inputs))), Column("input", typed(inputs))), len(inputs))


def _several(given: Any) -> Sequence[Any]:  # noqa: ANN401 - any JSON
    """Return the inputs that are given: a list, unless that is of tokens, which are one."""
    if isinstance(given, Numbers) and given.values.dtype.kind in "iu":
        return [given] if given.values.ndim == 1 else list(given.values)
    if not isinstance(given, (list, Numbers)):
        return [given]
    return [given] if all(type(token) is int for token in given) else list(given)


def _vectors(items: Sequence[Mapping[str, Any]]) -> Rows:
    if all(type(item.get("index")) is int for item in items):
        items = sorted(items, key=lambda item: item["index"])
    vectors = [_vector(item.get("embedding")) for item in items]
    if len(set(map(type, vectors))) > 1:
        vectors = list(map(list, vectors))
    width = len(vectors[0])
    if any(len(vector) != width for vector in vectors) or not width:
        raise UndecodablePayload("the embeddings are empty, or of unequal length")
    if all(isinstance(vector, np.ndarray) for vector in vectors):
        return columns(Head("embedding", "", (len(vectors), width)), np.concatenate(vectors))
    names = positions("embedding[{}]", width) if width > 1 else ("embedding",)
    return table(vectors, names, whole="embedding")


def _vector(embedding: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a vector: fractions (a null is NaN), else a list; of text, the float32, little-endian, that it encodes."""
    if isinstance(embedding, (list, Numbers)):
        values = typed(embedding, floating=True)
        is_flat = not isinstance(embedding, Numbers) or embedding.values.ndim == 1
        return values if values.dtype == np.float64 and is_flat else list(embedding)
    try:
        return np.frombuffer(b64decode(embedding, validate=True), dtype="<f4")
    except (TypeError, ValueError) as error:
        raise UndecodablePayload("an embedding is no list of numbers, nor base64 of them") from error


def _text(content: Any) -> str | None:  # noqa: ANN401 - any JSON
    """Return the text of a message's content: text, or the text among its parts."""
    if isinstance(content, str):
        return content
    texts = [part["text"] for part in _objects(content) if isinstance(part.get("text"), str)]
    return "".join(texts) if texts else None


def _is_image(part: Mapping[str, Any]) -> bool:
    return "image_url" in part or part.get("type") in ("image_url", "image", "input_image")


def _lines(contents: Iterable[Any]) -> str:
    return "\n".join(text for content in contents if (text := _text(content)) is not None)


def _objects(value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _row(cells: Mapping[str, Any]) -> Rows:
    return Rows(tuple(Column(name, typed([cell])) for name, cell in cells.items()), 1)
