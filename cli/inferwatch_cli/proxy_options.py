"""The options of the command `proxy`, each with its type, its default, and what `--help` says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

import typer

_Command = TypeVar("_Command", bound=Callable[..., None])


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """What the command line says; None where it says nothing."""

    upstream: Annotated[str | None, typer.Option(help="The model server, http(s)://host[:port].")] = None
    upstream_ca_file: Annotated[
        Path | None, typer.Option(help="Certificates that an https upstream is verified by, instead of the system's.")
    ] = None
    sink: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Where events go: http(s)://host[:port][/path] or kafka://host:port[,...]/topic; as often as wanted.",
        ),
    ] = None
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to relay; 0 takes a free one.")] = 9081
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0"  # noqa: S104 - all of a pod's
    admin_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of /metrics, /healthz, /readyz and /api/ledger.")
    ] = None
    spool: Annotated[Path | None, typer.Option(help="Directory in which undelivered events survive.")] = None
    spool_bytes: Annotated[int | None, typer.Option(help="Size of the queue file; 256 MiB unless given.")] = None
    config: Annotated[Path | None, typer.Option(help="A configuration, of which `capture` is read.")] = None
    component_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the model server on this machine, without --upstream.")
    ] = 8080
    log_url: Annotated[str | None, typer.Option(help="One more sink.")] = None
    log_mode: Annotated[str | None, typer.Option(help="all, request or response.")] = None
    inference_service: Annotated[
        str | None, typer.Option(help="The served model's name; unless given, the one that the path names.")
    ] = None
    namespace: Annotated[str, typer.Option(help="The served model's namespace.")] = "default"
    endpoint: Annotated[str, typer.Option(help="Tells a canary from the stable version.")] = "default"
    component: Annotated[str, typer.Option(help="predictor, transformer or explainer.")] = "predictor"
    source_uri: Annotated[str | None, typer.Option(help="The source of the events.")] = None
    metadata_headers: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Request headers to carry in `metadata`, comma-separated, in any case."),
    ] = None
    metadata_annotations: Annotated[str, typer.Option(help="Annotations of the model, k=v,k2=v2.")] = ""
    logger_ca_cert_file: Annotated[
        str | None, typer.Option(help="Certificates that https sinks are verified by; relative to /etc/tls/logger.")
    ] = None
    logger_tls_skip_verify: Annotated[bool, typer.Option("--logger-tls-skip-verify", help="Verify no https sink.")] = (
        False
    )

    @property
    def sinks(self) -> list[str]:
        """The sinks of every option that names any."""
        return [*(self.sink or ()), *((self.log_url,) if self.log_url else ())]


def takes(options: type) -> Callable[[_Command], _Command]:
    """Let a command, whose first parameter is the context, take the fields of a dataclass as its options."""
    kinds = {"context": typer.Context, **get_type_hints(options, include_extras=True)}
    defaults = {field.name: field.default for field in fields(options)}
    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=defaults.get(name, Parameter.empty), annotation=kind)
        for name, kind in kinds.items()
    ]

    def taking(command: _Command) -> _Command:
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # which Typer goes by
        command.__annotations__ = kinds
        return command

    return taking
