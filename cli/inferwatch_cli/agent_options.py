"""The options of KServe's agent, in whose place the sidecar stands: as Go, and KServe's injector, write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from typer.core import TyperCommand

from inferwatch.errors import ConfigError, Fault

_IGNORED_WITH_VALUE: Final = frozenset(
    {
        "workers",
        "log-store-path",
        "log-store-format",
        "log-marshaller-url",
        "log-marshaller-port",
        "log-batch-size",
        "log-batch-interval",
        "max-batchsize",
        "max-latency",
        "probe-period",
        "config-dir",
        "model-dir",
    }
)
_IGNORED_SWITCHES: Final = frozenset({"enable-batcher", "enable-puller"})
"""Options of KServe's agent that concern what a sidecar of ours does not do, or does by itself."""

_SWITCHES: Final = frozenset(f"--{name}" for name in (*_IGNORED_SWITCHES, "logger-tls-skip-verify"))
_VALUES: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
"""As Go reads them, in any case."""


class AgentCommand(TyperCommand):
    """A command whose switches may be written as those of KServe's agent are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - a type that Typer keeps to itself
        """Parse what the command line says."""
        return super().parse_args(ctx, plain_switches(args))


def plain_switches(given: Sequence[str]) -> list[str]:
    """Return arguments in which a switch that is on stands alone, and one that is off is left out.

    Written out they are `--switch=true`, or `--switch true`, as KServe's injector has it; for the agent itself such a
    `false` is a stray word, and the switch is on.
    """
    plain: list[str] = []
    for argument in given:
        name, _, value = argument.partition("=")
        on = _VALUES.get(value.lower())
        if name in _SWITCHES and on is not None:
            plain += [name] if on else []
        elif plain and plain[-1] in _SWITCHES and argument in ("true", "false"):
            del plain[len(plain) - (argument == "false") :]
        else:
            plain.append(argument)
    return plain


def ignored_options(given: Sequence[str]) -> list[str]:
    """Return the options of KServe's agent that mean nothing here. Raises `ConfigError` for any that is not known."""
    ignored: list[str] = []
    faults: list[Fault] = []
    rest = iter(given)
    for option in rest:
        name, equals, _ = option.removeprefix("--").partition("=")
        if option.startswith("--") and name in _IGNORED_WITH_VALUE:
            ignored.append(f"--{name}")
            if not equals:
                next(rest, None)
        elif option.startswith("--") and name in _IGNORED_SWITCHES and not equals:
            ignored.append(f"--{name}")
        else:
            faults.append(Fault(option, "is no option; see `inferwatch proxy --help`"))
    if faults:
        raise ConfigError(faults)
    return ignored
