"""Fuzzes the decoders with atheris, by hand, in an environment of its own that has this project and `atheris`:

    python -m tests.core.wire.fuzz PROTOCOL [-max_total_time=300 and other options of libFuzzer] [FOLDER]

PROTOCOL is a key of `bodies.BODIES`, the bodies that fuzzing begins with. The first byte of an input says which half of
an inference the rest is. What it finds goes, without that byte, into `corpus/PROTOCOL/`, as `request-WHAT` or
`response-WHAT`; a test reads it ever after.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["inferwatch", "inferwatch_logger"]):
    from inferwatch.events import Role
    from tests.core.wire.properties import assert_holds

from tests.core.wire.bodies import BODIES

WORDS = (
    *("instances", "predictions", "inputs", "outputs", "b64", "name", "shape", "datatype", "data", "parameters"),
    *("binary_data_size", "content_type", "base64", "BYTES", "BOOL", "FP16", "BF16", "UINT64", "NaN", "Infinity"),
    *("messages", "role", "content", "choices", "delta", "tool_calls", "index", "text", "usage", "object"),
    *("embedding", "input", "prompt", "model", "data: ", "[DONE]", "null", "1e400", "9007199254740993", "-0.0"),
)


def one_input(data: bytes) -> None:
    """Check one input."""
    if data:
        assert_holds(data[1:], Role(data[0] & 1))


def main() -> None:
    """Fuzz until something fails or the time is over."""
    if len(sys.argv) < 2 or sys.argv[1] not in BODIES:
        sys.exit(f"usage: python -m tests.core.wire.fuzz {{{','.join(BODIES)}}} [OPTION...] [FOLDER]")
    protocol, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder, "seeds")
        seeds.mkdir()
        for number, (role, body) in enumerate(BODIES[protocol]):
            (seeds / str(number)).write_bytes(bytes([role]) + body)
        words = Path(folder, "words")
        words.write_text("".join(f'"{word}"\n' for word in WORDS), encoding="ascii")
        folders = [option for option in options if not option.startswith("-")] or [str(Path(folder, "found"))]
        Path(folders[0]).mkdir(exist_ok=True)
        options = [option for option in options if option.startswith("-")]
        atheris.Setup([sys.argv[0], f"-dict={words}", "-rss_limit_mb=1024", *options, *folders, str(seeds)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
