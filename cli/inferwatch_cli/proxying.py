"""The command `proxy`: its options, and those of KServe's agent, become a sidecar that serves."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, cast, get_args
from urllib.parse import urlsplit

import typer

from inferwatch.delivery.delivery import Delivery, sink_of
from inferwatch.delivery.kafka import KafkaSink
from inferwatch.delivery.tls import Tls
from inferwatch.errors import ConfigError, Fault
from inferwatch.protocols import Sink
from inferwatch.settings import AnyTransport, CaptureSettings, EmbeddedTransport, KafkaTransport, load_settings
from inferwatch_cli.agent_options import ignored_options
from inferwatch_cli.listening import listening, log_to_stderr, loop_factory, reuse_freed_memory
from inferwatch_cli.proxy_options import ProxyOptions
from inferwatch_logger.capture import Capture, Mode
from inferwatch_logger.proxy.pool import Pool
from inferwatch_logger.proxy.readiness import VARIABLE, readiness
from inferwatch_logger.proxy.service import Sidecar
from inferwatch_logger.timed_sink import TimedSink

logger = logging.getLogger(__name__)

_PORTS: Final = {"http": 80, "https": 443}

_SINKS: Final = "http(s)://host[:port][/path] or kafka://host:port[,...]/topic"

_GIVEN_AS: Final = {
    "models": "capture.models",
    "name": "--inference-service",
    "queue_bytes": "--spool-bytes",
    "redact": "capture.redact",
    "sample": "capture.sample",
    "sink": "--sink",
}
"""What a user calls the arguments of capture and delivery that may be at fault."""

_CA_DIRECTORY: Final = Path("/etc/tls/logger")
"""Where KServe mounts the certificates of its loggers."""
_CA_FILE: Final = "service-ca.crt"
"""The one that counts there where no option says which."""

_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_PARTS: Final = re.compile(rf"(?:^|,)({_QUOTED.pattern}(?=,|$)|[^,]*)")
_PAIR: Final = re.compile(r"[\w./-]+=")
"""Annotations as KServe writes them, `k=v,k2=v2`, its values as they are: JSON with commas and quotes among them."""


def run_proxy(options: ProxyOptions, further: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT. `further`: what else the command line says.

    Raises `ConfigError`, or `InferwatchError` where it cannot start.
    """
    log_to_stderr()
    reuse_freed_memory()
    ignored = ignored_options(further)
    sidecar = sidecar_of(options)
    if ignored:
        logger.warning("options of KServe's agent that mean nothing here: %s", ", ".join(ignored))
    with ExitStack() as listeners:
        listener = listeners.enter_context(listening(options.host, options.port))
        admin = None
        if options.admin_port is not None:
            admin = listeners.enter_context(listening(options.host, options.admin_port))
            typer.echo(f"inferwatch proxy serves /metrics, /readyz and /api/ledger on port {admin.getsockname()[1]}")
        typer.echo(f"inferwatch proxy relays port {listener.getsockname()[1]} to {sidecar.pool.address}")
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(sidecar.serve(listener, admin))


def sidecar_of(options: ProxyOptions) -> Sidecar:
    """Return what the options ask for. Raises `ConfigError` with every fault."""
    faults: list[Fault] = []
    pool = _upstream(options, faults)
    settings = load_settings(options.config) if options.config is not None else None
    capture = settings.capture if settings is not None else CaptureSettings()
    name = options.inference_service
    if name is None and settings is not None and len(settings.models) == 1:
        name = settings.models[0].name
    if options.spool is None and options.spool_bytes is not None:
        faults.append(Fault("--spool-bytes", "is the size of a queue file; --spool says where it lies"))
    captured = delivery = None
    try:
        captured = _capture(options, capture, name)
    except ConfigError as fault:
        faults.extend(_as_given(fault))
    try:
        delivery = _delivery(options, capture, settings.transport if settings is not None else EmbeddedTransport())
    except ConfigError as fault:
        faults.extend(_as_given(fault))
    try:
        ready = readiness(pool.host if pool else "", pool.port if pool else 0, os.environ.get(VARIABLE, ""))
    except ConfigError as fault:
        faults.extend(fault.faults)
    if faults or pool is None or captured is None or delivery is None:
        raise ConfigError(faults)
    return Sidecar(pool, captured, delivery, ready)


def _as_given(error: ConfigError) -> Iterator[Fault]:
    for fault in error.faults:
        argument, dot, rest = fault.path.partition(".")
        yield Fault(f"{_GIVEN_AS.get(argument, argument)}{dot}{rest}", fault.message)


def _upstream(options: ProxyOptions, faults: list[Fault]) -> Pool | None:
    url = options.upstream or f"http://127.0.0.1:{options.component_port}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
        faults.append(Fault("--upstream", f"{url!r} is no URL of a model server; allowed is http(s)://host[:port]"))
        return None
    if options.upstream_ca_file is not None and parts.scheme != "https":
        faults.append(Fault("--upstream-ca-file", f"verifies an upstream over https, and {url!r} is none"))
    tls = Tls(ca_file=options.upstream_ca_file) if parts.scheme == "https" else None
    try:
        return Pool(parts.hostname, port or _PORTS[parts.scheme], tls=tls)
    except ConfigError as fault:
        faults.extend(Fault("--upstream-ca-file", each.message) for each in fault.faults)
        return None


def _capture(options: ProxyOptions, settings: CaptureSettings, name: str | None) -> Capture:
    return Capture.of(
        name=name,
        namespace=options.namespace or "default",
        component=options.component or "predictor",
        endpoint=options.endpoint or "default",
        annotations=dict(_annotations(options.metadata_annotations)),
        source=options.source_uri or None,
        **{
            **settings.options(),
            "mode": _mode(options.log_mode) or settings.mode,
            "metadata_headers": [*settings.metadata_headers, *_separated(options.metadata_headers or ())],
        },
    )


def _mode(given: str | None) -> Mode | None:
    if not given:
        return None
    for mode in get_args(Mode):
        if given == mode:
            return cast("Mode", mode)
    raise ConfigError([Fault("--log-mode", f"{given!r} is none of all, request, response")])


def _delivery(options: ProxyOptions, settings: CaptureSettings, transport: AnyTransport) -> Delivery:
    if not options.sinks:
        raise ConfigError([Fault("--sink", f"is missing; it says where events go: {_SINKS}")])
    if settings.tls is not None and not any(url.startswith("https:") for url in options.sinks):
        raise ConfigError([Fault("capture.tls", "is for sinks over https, and none of --sink is one")])
    return Delivery(
        [TimedSink(sink) for sink in _sinks(options, settings, transport)],
        spool=options.spool,
        queue_bytes=options.spool_bytes if options.spool_bytes is not None else settings.queue_bytes,
        when_full=settings.when_full,
    )


def _sinks(options: ProxyOptions, settings: CaptureSettings, transport: AnyTransport) -> Iterator[Sink]:
    tls = _tls(options, settings)
    configured = settings.tls is not None and tls.ca_file == settings.tls.tls().ca_file
    keys = {} if configured else {"tls.ca_file": "--logger-ca-cert-file"}
    for url in options.sinks:
        try:
            yield _sink(url, tls, transport)
        except ConfigError as error:
            if not all(fault.path.startswith("tls.") for fault in error.faults):
                raise
            named = [(keys.get(fault.path, f"capture.{fault.path}"), fault.message) for fault in error.faults]
            raise ConfigError([Fault(path, message) for path, message in named]) from error


def _sink(url: str, tls: Tls, transport: AnyTransport) -> Sink:
    """Return the sink of a URL: over TLS as was asked for, to Kafka as the transport of the configuration says."""
    if url.startswith("kafka:") and isinstance(transport, KafkaTransport):
        return KafkaSink(url, client=transport.client, options=transport.options)
    return sink_of(url, tls)


def _tls(options: ProxyOptions, settings: CaptureSettings) -> Tls:
    """Return how sinks are verified: as the options of KServe's agent say, else as the configuration does.

    KServe names a file of a ConfigMap that may not be there, and expects the model to be served all the same.
    """
    tls = settings.tls.tls() if settings.tls is not None else Tls()
    if options.logger_tls_skip_verify:
        return replace(tls, ca_file=None, verify=False)
    given = _CA_DIRECTORY / (options.logger_ca_cert_file or _CA_FILE)
    if given.is_file() and (options.logger_ca_cert_file or tls.ca_file is None):
        return replace(tls, ca_file=given)
    if options.logger_ca_cert_file:
        logger.warning("--logger-ca-cert-file: there is no %s; sinks are verified as without it", given)
    return tls


def _separated(values: Sequence[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _annotations(text: str) -> Iterator[tuple[str, str]]:
    """Yield what `k=v,k2=v2` says; a pair may be quoted as in CSV, what is no pair continues the value before it."""
    pairs: list[str] = []
    for part in _PARTS.findall(text) if text else ():
        pair = part[1:-1].replace('""', '"') if _QUOTED.fullmatch(part) else part
        if _PAIR.match(pair):
            pairs.append(pair)
        elif pairs:
            pairs[-1] += f",{part}"
        else:
            raise ConfigError([Fault("--metadata-annotations", f"{part!r} is not NAME=VALUE")])
    for pair in pairs:
        name, _, value = pair.partition("=")
        yield name, value
