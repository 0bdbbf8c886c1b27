"""Says what is wrong with a configuration: the path, the value, what is allowed, and the variable it came from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from inferwatch.errors import Fault

ENVIRONMENT_PREFIX = "INFERWATCH_"


def fault_of(error: ErrorDetails, root: type[BaseModel]) -> Fault:
    """Return one validation error of the settings `root` as a fault."""
    location = error["loc"]
    path, section = _walk(location, root)
    if error["type"] == "extra_forbidden":
        return Fault(path, f"unknown key; allowed here: {', '.join(section.model_fields)}")
    if error["type"] == "missing":
        return Fault(path, "is required and absent")
    message = error["msg"][0].lower() + error["msg"][1:]
    value = error["input"]
    shown = "" if isinstance(value, (Mapping, list, tuple, BaseModel)) else f"{_clipped(value)}: "
    variable = ENVIRONMENT_PREFIX + "__".join(map(str, location)).upper()
    source = f" (from the environment, {variable})" if variable in os.environ else ""
    return Fault(path, f"{shown}{message}{source}")


def _walk(location: Sequence[int | str], root: type[BaseModel]) -> tuple[str, type[BaseModel]]:
    """Return a location as `models[0].window.rows`, and the section its last part stands in.

    The tags that pydantic puts behind the index of a tagged union are no part of the path.
    """
    path, section = "", root
    here: Any = root
    for part in location:
        if isinstance(part, int):
            path, here = f"{path}[{part}]", _element(here)
            continue
        tagged = _tagged(here, part)
        if tagged is not None:
            here = section = tagged
            continue
        path = f"{path}.{part}" if path else part
        if isinstance(here, type) and issubclass(here, BaseModel):
            section = here
            here = here.model_fields[part].annotation if part in here.model_fields else None
    return path, section


def _element(annotation: Any) -> Any:  # noqa: ANN401 - a type annotation
    """Return what a sequence holds."""
    found = get_args(annotation)
    return found[0] if found else None


def _tagged(annotation: Any, tag: str) -> type[BaseModel] | None:  # noqa: ANN401 - a type annotation
    """Return the member of a union of sections whose `kind` is the tag."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, UnionType):
        return None
    for member in get_args(annotation):
        section: type[BaseModel] = member
        if tag in get_args(section.model_fields["kind"].annotation):
            return section
    return None


def _clipped(value: object) -> str:
    text = repr(str(value)) if isinstance(value, Path) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
