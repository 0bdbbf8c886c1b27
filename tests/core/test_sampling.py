"""Who is captured: the share that was asked for, always the same ones, and everything else by chance."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from inferwatch import sampling as module
from inferwatch.sampling import Sampling

USERS = [f"user-{number}" for number in range(4000)]


def taken(sampling: Sampling) -> set[str]:
    return {user for user in USERS if sampling.takes(user)}


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_the_share_is_the_one_that_was_asked_for(rate: float) -> None:
    deviation = (rate * (1 - rate) / len(USERS)) ** 0.5
    assert len(taken(Sampling(rate))) / len(USERS) == pytest.approx(rate, abs=5 * deviation)
    by_chance = sum(Sampling(rate).takes(None) for _ in USERS)
    assert by_chance / len(USERS) == pytest.approx(rate, abs=5 * deviation)


def test_none_and_all() -> None:
    assert (taken(Sampling(0)), len(taken(Sampling(1)))) == (set(), len(USERS))
    assert not any(Sampling(0.0).takes(None) for _ in range(100))
    assert all(Sampling(1.0).takes(None) for _ in range(100))


def test_who_is_taken_stays_so_when_the_rate_rises_and_in_every_process() -> None:
    tenth = taken(Sampling(0.1))
    assert tenth < taken(Sampling(0.2))
    program = "from inferwatch.sampling import Sampling; s = Sampling(0.1); print(sum(s.takes(u) * i for i, u in {}))"
    listed = list(enumerate(USERS[:500]))
    told = subprocess.run([sys.executable, "-c", program.format(listed)], capture_output=True, text=True, check=True)
    assert int(told.stdout) == sum(number for number, user in listed if user in tenth)


def test_another_key_takes_others(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    with_key = Sampling.of({"rate": 0.1, "by": {"header": "x-user"}, "key_file": str(key)})
    assert taken(with_key) != taken(Sampling(0.1))
    assert taken(with_key) == taken(Sampling(0.1, key=b"s3cret"))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"instances": [{"user_id": "u1"}, {"user_id": "u2"}]}', "u1"),
        (b'{"instances": [{"user_id": 7}]}', "7"),
        (gzip.compress(b'{"instances": [{"user_id": "u1"}]}', mtime=0), "u1"),
        (b'{"instances": [{"user_id": null}]}', None),
        (b'{"instances": [{}]}', None),
        (b'{"instances": [{"user_id": "u1"}', None),
        (b"\x1f\x8bbroken", None),
        (b"", None),
    ],
)
def test_the_value_of_a_field(body: bytes, value: str | None) -> None:
    sampling = Sampling.of({"rate": 0.5, "by": {"field": "$.instances[*].user_id"}})
    assert sampling.needs_body
    assert sampling.value_in(body) == value


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.3, 0.07])
def test_weights_are_whole_and_add_up(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(number / 1000 for number in range(1000))
    monkeypatch.setattr(module, "random", lambda: next(draws))
    weights = [Sampling(rate).weight() for _ in range(1000)]
    assert sum(weights) / 1000 == pytest.approx(1 / rate, abs=0.002)
    assert max(weights) - min(weights) <= 1
