from __future__ import annotations

import pytest

from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.exclusion import Exclusion
from inferwatch.origin import Origin


def test_marks_are_new_ids_of_the_agreed_form() -> None:
    assert Origin().mark() != Origin().mark()
    assert Origin().mark().startswith("inferwatch-explain-")
    assert Origin().is_ours(Origin().mark())
    assert not Origin().is_ours("explain")


def test_signed_marks_are_known_by_whoever_has_the_key() -> None:
    ours, others = Origin(b"secret"), Origin(b"guess")
    assert ours.is_ours(ours.mark())
    assert Origin().is_ours(ours.mark())
    for forged in (Origin().mark(), others.mark(), ours.mark()[:-1], ours.mark() + "0", ours.mark()[1:], "\u00e9"):
        assert not ours.is_ours(forged)


@pytest.mark.parametrize("metadata", ["", '{"X-Inferwatch-Origin":["explain"]}'])
def test_with_a_key_an_unsigned_mark_excludes_nothing(metadata: str) -> None:
    exclusion = Exclusion(origin=Origin(b"secret"))

    def reason(identity: str, **extensions: str) -> str | None:
        event = CloudEvent(identity, "test", REQUEST_TYPE, extensions={"metadata": metadata, **extensions})
        return exclusion.reason(event, "v1")

    assert reason(Origin().mark()) is None
    assert reason("5") is None
    assert reason(Origin(b"secret").mark()) == "explain"
    assert reason("5", component="explainer") == "explain"
