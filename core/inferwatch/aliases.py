"""Requests and responses of other senders: events of their types, read as those of KServe's agent are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from inferwatch.events import ROLE, SENDER, CloudEvent, Role

REQUEST_ALIASES = ("io.seldon.serving.inference.request", "io.kserve.inference.request")
RESPONSE_ALIASES = ("io.seldon.serving.inference.response", "io.kserve.inference.response")


class Aliases:
    """Event types that stand for a request or a response.

    Seldon's senders name the model in `modelid`, beside or in place of `inferenceservicename`; and they give each event
    an id of its own, and both halves a `requestid`, which all models of a deployment share.
    """

    def __init__(
        self, request: Collection[str] = REQUEST_ALIASES, response: Collection[str] = RESPONSE_ALIASES
    ) -> None:
        self._roles = dict.fromkeys(request, Role.REQUEST) | dict.fromkeys(response, Role.RESPONSE)

    def event(self, event: CloudEvent) -> CloudEvent:
        """Return the event, marked with its role and named where its type is one of these."""
        role = self._roles.get(event.type)
        if role is None:
            return event
        extensions = {**event.extensions, ROLE: role.name.lower()}
        model = extensions.get("modelid")
        if model and not extensions.get("inferenceservicename"):
            extensions["inferenceservicename"] = model
        if model and extensions.get("requestid"):
            extensions[SENDER] = model
        return replace(event, extensions=extensions)
