"""The V2 protocol over gRPC, for asking: `ModelInfer` of `inference.GRPCInferenceService`, tensors as raw contents.

Messages are written here by hand, a handful of fields: https://protobuf.dev/programming-guides/encoding and
`grpc_predict_v2.proto` of KServe. `core` reads the replies, as it reads logged ones.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from inferwatch.errors import MissingExtra, UndecodablePayload
from inferwatch.rows import Matrix, Schema
from inferwatch.wire.grpc_codes import HTTP_STATUS
from inferwatch.wire.protobuf import LENGTH, Reader
from inferwatch_explainers.binary_tensors import raw_tensors
from inferwatch_explainers.predictor_reply import Reply
from inferwatch_explainers.request_form import RequestForm

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"

_VARINT: Final = 0
_MODEL_NAME, _MODEL_VERSION, _PARAMETERS, _INPUTS, _RAW = 1, 2, 4, 5, 7
_TOO_LARGE: Final = 413
_FRAME_BYTES: Final = 5


class GrpcChannels:
    """Connections to gRPC servers, one an address, opened when they are first asked. Of one event loop.

    `https` addresses are verified by the certificates that OpenSSL trusts (`SSL_CERT_FILE` names others). Raises
    `MissingExtra` where grpcio is not installed.
    """

    def __init__(self, most_reply_bytes: int) -> None:
        self._grpc = require_grpc()
        self._options = [
            ("grpc.max_receive_message_length", most_reply_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channels: dict[str, Any] = {}

    async def ask(self, address: str, message: bytes, headers: Mapping[str, str]) -> Reply:
        """Return the reply of `ModelInfer`. Of a call that failed it has the status that HTTP has for its code."""
        call = self._channel(address).unary_unary(METHOD)
        try:
            said = await call(message, metadata=[(name.lower(), value) for name, value in headers.items()])
        except self._grpc.aio.AioRpcError as fault:
            code, details = fault.code().name, fault.details() or ""
            too_large = code == "RESOURCE_EXHAUSTED" and "larger than max" in details
            return Reply(_TOO_LARGE if too_large else HTTP_STATUS[code], f"{code}: {details}".encode())
        return Reply(200, b"\0" + len(said).to_bytes(_FRAME_BYTES - 1, "big") + said, version=_version(said))

    async def close(self) -> None:
        """End all connections, and the calls on them."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def _channel(self, address: str) -> Any:  # noqa: ANN401 - grpcio has no types
        if address not in self._channels:
            parts = urlsplit(address)
            if parts.scheme == "https":
                credentials = self._grpc.ssl_channel_credentials(_trusted())
                opened = self._grpc.aio.secure_channel(_target(address), credentials, self._options)
            else:
                opened = self._grpc.aio.insecure_channel(_target(address), self._options)
            self._channels[address] = opened
        return self._channels[address]


def beside(address: str, port: int | None = None) -> str:
    """Return where a server of HTTP at this address listens for gRPC: at `port`, or as KServe, Triton and MLServer do.

    They have it at the next port, or at 8081 where the address names none.
    """
    parts = urlsplit(address)
    if port is None:
        port = 8081 if parts.port in (None, 80, 443) else parts.port + 1
    return f"{parts.scheme}://{_host(address)}:{port}"


def require_grpc() -> Any:  # noqa: ANN401 - grpcio has no types
    """Return the module of grpcio. Raises `MissingExtra` where it is not installed."""
    try:
        import grpc.aio
    except ImportError as fault:
        raise MissingExtra("gRPC to predictors", "grpc-predictor") from fault
    return grpc


def write_infer(form: RequestForm, model_name: str, values: Matrix, schema: Schema) -> bytes:
    """Return the `ModelInferRequest` about rows (r, d) as the schema encodes them, in a V2 form."""
    tensors = list(raw_tensors(form, values, schema))
    parts: list[bytes | memoryview] = [_text(_MODEL_NAME, model_name), *_parameters(_PARAMETERS, form.parameters)]
    for tensor in tensors:
        shape = _field(3, b"".join(map(_varint, tensor.shape)))
        head = [_text(1, tensor.name), _text(2, tensor.datatype), shape, *_parameters(4, tensor.parameters)]
        parts.append(_field(_INPUTS, b"".join(head)))
    for tensor in tensors:
        parts += [_key(_RAW, LENGTH), _varint(len(tensor.data)), tensor.data]
    return b"".join(parts)


def _parameters(number: int, parameters: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the entries of a map of `InferParameter`s; what is no boolean, integer or text goes as text."""
    for name, value in parameters.items():
        match value:
            case bool():
                written = _key(1, _VARINT) + _varint(int(value))
            case int():
                written = _key(2, _VARINT) + _varint(value % 2**64)
            case _:
                written = _text(3, str(value))
        yield _field(number, _text(1, name) + _field(2, written))


def _version(message: bytes) -> str | None:
    try:
        found = [field.value for field in Reader().fields(memoryview(message)) if field[:2] == (_MODEL_VERSION, LENGTH)]
    except UndecodablePayload:
        return None
    return bytes(found[-1]).decode("utf-8", "replace") or None if found else None


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, value: bytes) -> bytes:
    return _key(number, LENGTH) + _varint(len(value)) + value


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _target(address: str) -> str:
    parts = urlsplit(address)
    return f"{_host(address)}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _host(address: str) -> str:
    name = urlsplit(address).hostname or ""
    return f"[{name}]" if ":" in name else name


def _trusted() -> bytes | None:
    """Return the certificates that OpenSSL trusts; None where it has none, and gRPC's own count."""
    paths: Sequence[str | None] = ssl.get_default_verify_paths()[:1]
    return Path(paths[0]).read_bytes() if paths[0] else None
