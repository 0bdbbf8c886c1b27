"""Runs every benchmark, or those named, and keeps what each prints in docs/benchmarks.md: `python -m benchmarks`."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

NAMES = (
    "ingest",
    "capture",
    "proxy",
    "delivery",
    "kafka_path",
    "dead_sink",
    "decode",
    "log",
    "false_alarms",
    "fleet",
    "explain",
    "explain_remote",
    "explain_trees",
    "explain_anchors",
)
_HEADING = "\n## benchmarks."
REPORT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_OPENING = """# Benchmarks

Written by `make bench`; what each table measures, its peer and how it is fair stand in the module that makes it, in
`benchmarks/`. Absolute figures are those of the machine that each table names: compare ratios.
"""


class _Tee(io.StringIO):
    """Keeps what is printed, and shows it as it comes."""

    def write(self, text: str, /) -> int:
        if sys.__stdout__ is not None:
            sys.__stdout__.write(text)
            sys.__stdout__.flush()
        return super().write(text)


def measured(name: str) -> str:
    """Run one benchmark, and return its section."""
    began = time.perf_counter()
    with redirect_stdout(_Tee()) as printed:
        print(f"{_HEADING}{name}\n")
        import_module(f"benchmarks.{name}").main()
    return f"{printed.getvalue()}\nTook {time.perf_counter() - began:.0f} s.\n"


def kept(report: str) -> dict[str, str]:
    """Return the sections of a report by their benchmark's name."""
    return {section.split("\n", 1)[0]: _HEADING + section for section in report.split(_HEADING)[1:]}


def main(names: Sequence[str]) -> None:
    """Run the benchmarks of these names, all where none is given; each replaces its own section of the report."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    for name in names or NAMES:
        section = measured(name)
        sections = kept(REPORT.read_text(encoding="utf-8")) | {name: section}
        text = _OPENING + "".join(sections[name] for name in NAMES if name in sections)
        REPORT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
