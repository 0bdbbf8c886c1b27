"""Rules of redaction as a configuration writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from inferwatch.redaction import Redaction
from inferwatch.redaction_rules import Rule
from inferwatch.settings.section import Section


class RedactSettings(Section):
    """A header or a JSON path, and what becomes of its values. `headers.NAME` alone, or a path alone, is dropped."""

    path: str | None = None
    """A JSON path into bodies, as in `$.instances[*].ssn`."""
    header: str | None = None
    """A logged request header, in any case."""
    action: Literal["drop", "hash", "mask"] = "drop"
    """`drop`: a header goes, null stands for a value. `hash`: HMAC-SHA256, so that equal values stay equal. `mask`:
    stars, and the last four characters of what is longer than eight."""
    key_file: Path | None = None
    """The file with the key of a `hash`."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, given: Any) -> Any:  # noqa: ANN401 - from a file
        if not isinstance(given, str):
            return given
        _check(given)
        return {"header": given.removeprefix("headers.")} if given.startswith("headers.") else {"path": given}

    @model_validator(mode="after")
    def _is_a_rule(self) -> Self:
        _check(self.model_dump())
        return self

    def rooted(self, root: Path) -> RedactSettings:
        """Return the rule with a relative key file taken from a directory."""
        return self if self.key_file is None else self.model_copy(update={"key_file": root / self.key_file})


def redaction_of(rules: Sequence[RedactSettings]) -> Redaction:
    """Return the rules, ready to be applied. Raises `ValueError` for a file that holds no key."""
    return Redaction([rule.model_dump() for rule in rules])


def _check(entry: str | dict[str, Any]) -> None:
    try:
        Rule.of(entry)
    except ValueError as error:  # the text itself is shown with every fault
        raise PydanticCustomError("rule", "{reason}", {"reason": str(error).removeprefix(f"{entry!r}: ")}) from error
