"""The `inferwatch` command. Results go to standard output; faults, one a line, to standard error.

Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from inferwatch._version import __version__
from inferwatch.errors import ConfigError, Fault, InferwatchError
from inferwatch_cli.agent_options import AgentCommand
from inferwatch_cli.proxy_options import ProxyOptions, takes

app = typer.Typer(
    name="inferwatch",
    help="Monitoring and explanation of served machine-learning models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
reference_app = typer.Typer(help="References: what live traffic is compared with.", no_args_is_help=True)
dashboards_app = typer.Typer(help="Grafana dashboards.", no_args_is_help=True)
app.add_typer(reference_app, name="reference")
app.add_typer(dashboards_app, name="dashboards")

ConfigOption = Annotated[Path, typer.Option("--config", help="The configuration, a YAML file.")]
DataOption = Annotated[Path | None, typer.Option(help="Directory of the payload log; overrides the configuration.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]


def main() -> None:
    """Run the command and exit with its code."""
    try:
        app()
    except ConfigError as fault:
        _complain(*map(str, fault.faults))
        sys.exit(2)
    except InferwatchError as fault:
        _complain(str(fault))
        sys.exit(1)
    except OSError as fault:  # a file or a directory that cannot be read or written
        _complain(f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault))
        sys.exit(1)


def _complain(*lines: str) -> None:
    for line in lines:
        typer.echo(f"inferwatch: {line}", err=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inferwatch {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def up(
    config: ConfigOption,
    data: DataOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: PortOption = 8080,
) -> None:
    """Run everything in one process.

    Ingest, payload log, detectors, explainers, API, metrics and console.
    """
    # Rows come in small batches: threads of linear algebra cost a tenth more there, as they spin while they wait.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from inferwatch_cli.serving import serve
    from inferwatch_cli.up import open_up

    serve(open_up, "serves", config, data, host, port)


@app.command()
def ingest(
    config: ConfigOption,
    data: Annotated[
        Path | None, typer.Option(help="Directory of dead letters; that of the payload log unless given.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - all of a pod's
    port: PortOption = 8080,
) -> None:
    """Take events over HTTP onto a Kafka topic.

    Answers once the brokers have them.
    """
    from inferwatch_cli.ingesting import open_ingest
    from inferwatch_cli.serving import serve

    serve(open_ingest, "ingests", config, data, host, port)


@app.command()
def store(
    config: ConfigOption,
    data: DataOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - all of a pod's
    port: PortOption = 8080,
) -> None:
    """Read a Kafka topic into the payload log.

    Serves API, metrics and console.
    """
    from inferwatch_cli.serving import serve
    from inferwatch_cli.storing import open_store

    serve(open_store, "stores", config, data, host, port)


@app.command(cls=AgentCommand, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@takes(ProxyOptions)
def proxy(context: typer.Context, **given: Any) -> None:  # noqa: ANN401 - what `ProxyOptions` has
    """Relay to a model server, and send what passes to sinks.

    The events are those of KServe's agent. Takes its options; those that mean nothing here are named in one warning.
    """
    from inferwatch_cli.proxying import run_proxy

    run_proxy(ProxyOptions(**given), context.args)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def explain(
    config: ConfigOption,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - all of a pod's
    port: Annotated[
        int, typer.Option("--port", "--http_port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    model_name: Annotated[
        str | None, typer.Option("--model_name", help="The model that --predictor_host is about; all unless given.")
    ] = None,
    predictor_host: Annotated[
        str | None, typer.Option("--predictor_host", help="Host, or host:port, of the predictor; wins over the file.")
    ] = None,
    predictor_protocol: Annotated[
        str | None, typer.Option("--predictor_protocol", help="v1, v2 or grpc-v2; what the file says unless given.")
    ] = None,
    predictor_use_ssl: Annotated[
        str, typer.Option("--predictor_use_ssl", help="Whether --predictor_host speaks HTTPS: true or false.")
    ] = "false",
) -> None:
    """Explain predictions, as the explainer of an InferenceService.

    Other arguments of KServe are ignored.
    """
    from inferwatch_cli.explaining import PredictorOptions, run_explain

    use_ssl = predictor_use_ssl.lower() in ("true", "1", "yes")
    run_explain(config, PredictorOptions(model_name, predictor_host, predictor_protocol, use_ssl), host, port)


@app.command()
def check(config: ConfigOption) -> None:
    """Report every fault of a configuration at once.

    Nothing is started or changed.
    """
    from inferwatch_cli.checks import checked
    from inferwatch_cli.detector_checks import unseen_season

    models = checked(config).models
    detectors = sum(len(model.settings.detectors) for model in models)
    typer.echo(f"{config}: good; models: {len(models)}, detectors: {detectors}")
    for number, model in enumerate(models):
        for note in unseen_season(model.settings, f"models[{number}]"):
            typer.echo(f"note: {note}")


@app.command()
def replay(
    config: ConfigOption,
    data: DataOption = None,
    model: Annotated[str | None, typer.Option(metavar="NS/NAME", help="This model alone.")] = None,
    since: Annotated[str | None, typer.Option(help="Findings from this time on, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option(help="Findings before this time, RFC 3339.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Another configuration, whose rules are put beside the first ones.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every finding as a line of JSON.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Keep the findings in the log, which no process may have open.")
    ] = False,
) -> None:
    """Run the detectors over stored traffic.

    Says what they found or, with other rules, would have found. Writes nothing unless told to.
    """
    from inferwatch_cli.replaying import replay_lines

    for line in replay_lines(config, data, model, since, until, compare, as_json=as_json, write=write):
        typer.echo(line)


@app.command()
def importance(
    config: ConfigOption,
    model: Annotated[str, typer.Option(metavar="NS/NAME", help="The served model, one with an explainer.")],
    data: DataOption = None,
    last: Annotated[int, typer.Option(min=2, help="So many of its logged rows, the newest.")] = 1_000,
    repeats: Annotated[int, typer.Option(min=1, help="Other rows that each row takes a value from, by feature.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how much a model's predictions hang on each feature.

    Permutation importance, over logged traffic. Asks the predictor, or the artefact, of the model's first explainer.
    """
    from inferwatch_cli.importance import importance_lines

    for line in importance_lines(config, data, model, last, repeats, as_json=as_json):
        typer.echo(line)


@app.command()
def erase(
    data: Annotated[Path, typer.Option(help="Directory of the payload log.")],
    model: Annotated[str, typer.Option(metavar="NS/NAME", help="The served model.")],
    identity: Annotated[str | None, typer.Option("--id", help="The id of the events to remove.")] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="COLUMN=VALUE", help="Remove payloads with a row that has this value, in or out."),
    ] = None,
) -> None:
    """Remove payloads everywhere in a log, and say how many.

    No process may have the log open.
    """
    from inferwatch_cli.erasing import erase_payloads

    count = erase_payloads(data, model, identity, where)
    typer.echo(f"{data}: {count} payloads of {model} erased")


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files of logged payloads.")],
    data: Annotated[Path, typer.Option(help="Directory of the payload log; made where absent.")],
    model: Annotated[str, typer.Option(metavar="NS/NAME", help="The served model that they are of.")],
    config: Annotated[
        Path | None, typer.Option(help="A configuration, of which `redact`, `exclude` and `ingest` are read.")
    ] = None,
) -> None:
    """Put payloads that were logged elsewhere into a payload log.

    No process may have the log open. Reads KServe's blob logs (JSON, CSV, Parquet), lines of SageMaker's data capture,
    and plain tables. Files may be imported again: what is there already is a duplicate. They are stored, joined and
    decoded, and not judged.
    """
    from inferwatch_cli.importing import import_files

    for line in import_files(files, data, model, config):
        typer.echo(line)


@app.command()
def ledger(
    url: Annotated[str | None, typer.Option(help="A running service; http://127.0.0.1:8080 unless given.")] = None,
    spool: Annotated[Path | None, typer.Option(help="A directory of queue files, in use or not.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the bearer token of the service.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the account of every event.

    What was taken, and what became of each.
    """
    from inferwatch_cli.ledger import ledger_in, ledger_of, lines, printed

    if spool is not None and (url is not None or token_file is not None):
        raise ConfigError([Fault("--spool", "reads files; --url and --token-file are of a running service")])
    found = ledger_of(url or "http://127.0.0.1:8080", token_file) if spool is None else ledger_in(spool)
    typer.echo(printed(found) if as_json else "\n".join(lines(found)))


@app.command()
def demo(
    drift: Annotated[bool, typer.Option("--drift/--no-drift", help="Whether the population really changes.")] = True,
    directory: Annotated[Path, typer.Option(help="Where the demo keeps its files; emptied first.")] = Path(
        "build/demo"
    ),
    server_python: Annotated[
        Path, typer.Option(help="The Python of the model server's environment; `make setup-demo` makes it.")
    ] = Path(".venvs/demo/bin/python"),
) -> None:
    """Show an alarm, flagged rows and an explanation.

    On real traffic to a real model server.
    """
    from inferwatch_cli.demo.story import tell

    if not tell(directory, server_python, drift=drift):
        raise typer.Exit(1)


@reference_app.command("build")
def reference_build(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    source: Annotated[Path | None, typer.Option("--input", help="CSV, Parquet, npy or npz.")] = None,
    logged: Annotated[
        str | None, typer.Option(metavar="NS/NAME", help="A model whose logged requests are taken.")
    ] = None,
    last: Annotated[int | None, typer.Option(min=2, help="So many of its rows, the newest; all unless given.")] = None,
    data: Annotated[Path | None, typer.Option(help="Directory of the payload log, which may be in use.")] = None,
    rows: Annotated[int, typer.Option(min=2, help="Rows to keep for exact tests and explanations.")] = 5_000,
) -> None:
    """Make a reference of a table, or of logged requests.

    A profile of all rows and a sample of them, in one file.
    """
    from inferwatch_cli.referencing import built_reference

    reference = built_reference(source, logged, last, data, rows)
    reference.save(out)
    typer.echo(f"{out}: {reference.count} rows, {len(reference.schema.features)} features, id {reference.id}")


@dashboards_app.command("build")
def dashboards_build(
    out: Annotated[Path, typer.Option(help="Directory to write to; made where absent.")],
) -> None:
    """Write the Grafana dashboards as JSON, one file each."""
    from inferwatch_dashboards import build

    for path in build(out):
        typer.echo(path)
