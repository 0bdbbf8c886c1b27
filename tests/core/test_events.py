"""An event knows its role, its stream, and a key that tells it from every other event but its own redelivery."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferwatch.clock import parse_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, ROLE, CloudEvent, Role, Service, Stream

NOON = parse_time("2026-11-21T12:00:00Z")
EVENT = CloudEvent(
    "7", "agent", REQUEST_TYPE, NOON, "application/json", {"namespace": "shop", "inferenceservicename": "income"}, b"{}"
)


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        (REQUEST_TYPE, Role.REQUEST),
        (RESPONSE_TYPE, Role.RESPONSE),
        ("io.seldon.serving.inference.request", None),
        ("org.kubeflow.serving.inference.outlier", None),
        ("", None),
    ],
)
def test_the_type_says_the_role(kind: str, role: Role | None) -> None:
    assert replace(EVENT, type=kind).role is role


@pytest.mark.parametrize(("mark", "role"), [("request", Role.REQUEST), ("response", Role.RESPONSE), ("both", None)])
def test_a_type_of_another_sender_is_what_its_mark_says(mark: str, role: Role | None) -> None:
    assert replace(EVENT, type="io.other", extensions={ROLE: mark}).role is role
    assert replace(EVENT, extensions={ROLE: mark}).role is Role.REQUEST


def test_absent_and_empty_attributes_read_as_kserves_defaults() -> None:
    assert EVENT.stream == Stream("shop", "income", "predictor", "default")
    empty = {"namespace": "", "inferenceservicename": "", "component": "", "endpoint": ""}
    assert replace(EVENT, extensions=empty).stream == Stream("default", "unknown", "predictor", "default")
    assert replace(EVENT, extensions={}).stream == Stream("default", "unknown", "predictor", "default")


def test_a_stream_belongs_to_a_service() -> None:
    assert EVENT.stream.service == Service("shop", "income")
    assert str(EVENT.stream.service) == "shop/income"


def test_attributes_are_named_as_cloudevents_names_them() -> None:
    assert EVENT.attributes() == {
        "specversion": "1.0",
        "id": "7",
        "source": "agent",
        "type": REQUEST_TYPE,
        "time": "2026-11-21T12:00:00Z",
        "datacontenttype": "application/json",
        "namespace": "shop",
        "inferenceservicename": "income",
    }
    assert replace(EVENT, time_ns=None, content_type=None).attributes().keys().isdisjoint({"time", "datacontenttype"})


def test_a_redelivery_has_the_same_key() -> None:
    again = replace(EVENT, source="another agent", content_type=None, extensions={**EVENT.extensions, "path": "/x"})
    assert again.key() == EVENT.key()
    assert len(EVENT.key()) == 16


@pytest.mark.parametrize(
    "other",
    [
        replace(EVENT, id="8"),
        replace(EVENT, extensions={**EVENT.extensions, "endpoint": "canary"}),
        replace(EVENT, type=RESPONSE_TYPE),
        replace(EVENT, time_ns=NOON + 1),
        replace(EVENT, time_ns=None),
        replace(EVENT, extensions={**EVENT.extensions, "namespace": "hop"}),
        replace(EVENT, extensions={**EVENT.extensions, "inferenceservicename": "incom"}),
        replace(EVENT, extensions={**EVENT.extensions, "component": "transformer"}),
        # the same characters, cut elsewhere
        replace(EVENT, extensions={"namespace": "shopi", "inferenceservicename": "ncome"}),
    ],
)
def test_what_differs_in_identity_has_another_key(other: CloudEvent) -> None:
    assert other.key() != EVENT.key()


def test_the_body_stands_in_for_a_missing_time() -> None:
    timeless = replace(EVENT, time_ns=None)
    assert timeless.key() == replace(timeless).key()
    assert timeless.key() != replace(timeless, data=b"[]").key()
    assert EVENT.key() == replace(EVENT, data=b"[]").key()
