"""Events of other senders' types become requests and responses of the right model; the rest stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferwatch.aliases import Aliases
from inferwatch.events import REQUEST_TYPE, SENDER, CloudEvent, Role

SELDON = CloudEvent("6a57", "http://:8000/", "io.seldon.serving.inference.request", 0, extensions={"namespace": "ml"})


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("io.seldon.serving.inference.request", Role.REQUEST),
        ("io.seldon.serving.inference.response", Role.RESPONSE),
        ("io.kserve.inference.request", Role.REQUEST),
        ("io.kserve.inference.response", Role.RESPONSE),
        ("io.seldon.serving.inference.outlier", None),
        ("io.inferwatch.finding.drift", None),
    ],
)
def test_these_types_stand_for_payloads_where_nothing_is_said(kind: str, role: Role | None) -> None:
    event = Aliases().event(replace(SELDON, type=kind))
    assert (event.role, event.type) == (role, kind)


def test_types_that_are_named_take_the_place_of_the_default() -> None:
    aliases = Aliases(["com.shop.asked"], ["com.shop.answered"])
    assert aliases.event(replace(SELDON, type="com.shop.asked")).role is Role.REQUEST
    assert aliases.event(replace(SELDON, type="com.shop.answered")).role is Role.RESPONSE
    assert aliases.event(SELDON).role is None


def test_an_event_of_kserve_is_left_alone() -> None:
    event = replace(SELDON, type=REQUEST_TYPE, extensions={"modelid": "classifier", "requestid": "r"})
    assert Aliases().event(event) is event
    assert (event.inference_id, event.stream.name) == ("6a57", "unknown")


def test_the_model_is_named_by_either_attribute() -> None:
    alone = Aliases().event(replace(SELDON, extensions={"namespace": "ml", "modelid": "classifier"}))
    assert alone.stream == ("ml", "classifier", "predictor", "default")
    named = {"namespace": "ml", "inferenceservicename": "shop", "modelid": "classifier", "endpoint": "canary"}
    assert Aliases().event(replace(SELDON, extensions=named)).stream == ("ml", "shop", "predictor", "canary")


def test_both_halves_share_the_request_id_and_each_model_of_a_deployment_has_its_own() -> None:
    """Seldon gives each event an id of its own."""
    event = Aliases().event(replace(SELDON, extensions={"modelid": "classifier", "requestid": "12b0"}))
    assert (event.id, event.inference_id, event.extensions[SENDER]) == ("6a57", "12b0", "classifier")
    alone = Aliases().event(replace(SELDON, extensions={"modelid": "classifier"}))
    assert (alone.inference_id, SENDER in alone.extensions) == ("6a57", False)
