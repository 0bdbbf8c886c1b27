"""Whatever bytes come, decoders tell what they are or why they cannot, in bounds, and what they give can be used.

`fuzz.py` looks for bytes of which this does not hold, for as long as one lets it; the corpus is what it found.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.events import Role
from inferwatch.wire.decode import decode
from tests.core.wire.bodies import BODIES, CORPUS, Body
from tests.core.wire.properties import PROTOCOLS, assert_holds

FOUND = sorted(path for path in CORPUS.rglob("*") if path.is_file())
EVERY = [body for bodies in BODIES.values() for body in bodies]
ODD = [
    b"",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b",",
    b"\x00",
    b"\x80",
    b"\xff",
    b"-",
    b"9" * 20,
    b"1e400",
    b"NaN",
    b"null",
    b"\n",
]


@pytest.mark.parametrize("made_from", BODIES)
def test_bodies_are_of_their_protocol(made_from: str) -> None:
    found = {assert_holds(body, role) for role, body in BODIES[made_from]}
    expected = PROTOCOLS if made_from == "gzip" else {made_from}
    assert found <= expected | ({"health", "unknown"} if made_from == "grpc" else set())


@pytest.mark.parametrize("made_from", BODIES)
def test_damage_is_told_or_read(made_from: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(BODIES[made_from]), st.data())
    def check(body: Body, data: st.DataObject) -> None:
        role, damaged = body
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(damaged)))
            stop = data.draw(st.integers(start, min(start + 8, len(damaged))))
            damaged = damaged[:start] + data.draw(st.sampled_from(ODD) | st.binary(max_size=4)) + damaged[stop:]
        assert_holds(damaged, role)

    check()


def test_bodies_cut_anywhere_are_told_or_read() -> None:
    for role, body in EVERY:
        for end in range(0, len(body), 1 + len(body) // 200):
            found = decode(body[:end], role)
            assert (found.protocol == "unknown") == bool(found.fault)


def test_bodies_in_the_wrong_half_are_told_or_read() -> None:
    for role, body in EVERY:
        assert_holds(body, Role(1 - role))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_stays_found(path: Path) -> None:
    role = {"request": Role.REQUEST, "response": Role.RESPONSE}[path.name.partition("-")[0]]
    assert assert_holds(path.read_bytes(), role) == path.parent.name
