"""Runs every benchmark, or those named, and keeps what they print in docs/benchmarks.md: `python -m benchmarks`."""

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
    "explain",
)
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


def report(names: Sequence[str]) -> str:
    """Return what the benchmarks print, one section each."""
    sections = [_OPENING]
    for name in names:
        began = time.perf_counter()
        with redirect_stdout(_Tee()) as printed:
            print(f"\n## benchmarks.{name}\n")
            import_module(f"benchmarks.{name}").main()
        sections.append(f"{printed.getvalue()}\nTook {time.perf_counter() - began:.0f} s.\n")
    return "".join(sections)


def main(names: Sequence[str]) -> None:
    """Run the benchmarks of these names, all where none is given; only a run of all is kept."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    text = report(names or NAMES)
    if not names:
        REPORT.write_text(text, encoding="utf-8")
        print(f"\nwritten to {REPORT}")


if __name__ == "__main__":
    main(sys.argv[1:])
