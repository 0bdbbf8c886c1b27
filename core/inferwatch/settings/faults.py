"""Says what is wrong with a configuration: the path, the value, what is allowed, and the variable it came from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from inferwatch.errors import Fault

ENVIRONMENT_PREFIX = "INFERWATCH_"
_QUOTED = re.compile(r'field "(\w+)"')
_TAG_FAULTS = ("union_tag_invalid", "union_tag_not_found")
_WORDS = {
    "model_type": "input should be a mapping",
    "model_attributes_type": "input should be a mapping",
    "dict_type": "input should be a mapping",
    "tuple_type": "input should be a list",
    "path_type": "input should be a path",
}


def fault_of(error: ErrorDetails, root: type[BaseModel]) -> Fault:
    """Return one validation error of the settings `root` as a fault."""
    location = error["loc"]
    path, section = _walk(location, root)
    source = _source(location)
    if error["type"] == "extra_forbidden":
        return Fault(path, f"{unknown_key(path, section).message}{source}")
    if error["type"] == "missing":
        return Fault(path, "is required and absent")
    if error["type"] in _TAG_FAULTS:
        return _tag_fault(path, error)
    message = _WORDS.get(error["type"]) or error["msg"][0].lower() + error["msg"][1:]
    value = error["input"]
    shown = "" if isinstance(value, (Mapping, list, tuple, BaseModel)) else f"{_clipped(value)}: "
    return Fault(path, f"{shown}{message}{source}")


def unknown_key(path: str, section: type[BaseModel]) -> Fault:
    """Return the fault of a key that the section does not have."""
    return Fault(path, f"unknown key; allowed here: {', '.join(section.model_fields)}")


def unparsed_variable(error: SettingsError) -> Fault:
    """Return the fault of a variable that stands for a whole section and is no JSON; the error names it in words."""
    quoted = _QUOTED.search(str(error))
    field = quoted[1] if quoted else ""
    variable = ENVIRONMENT_PREFIX + field.upper()
    return Fault(
        field, f"{_clipped(os.environ.get(variable))}: input should be JSON (from the environment, {variable})"
    )


def _tag_fault(path: str, error: ErrorDetails) -> Fault:
    """Return the fault of a section whose `kind`, which says what else it may hold, is absent or unknown."""
    if error["type"] == "union_tag_not_found":
        return Fault(f"{path}.kind", "is required and absent")
    context = error["ctx"]
    return Fault(f"{path}.kind", f"{_clipped(context['tag'])}: input should be one of {context['expected_tags']}")


def _source(location: Sequence[int | str]) -> str:
    """Return the environment variable that a value came from, in words; nothing where it came from the file."""
    names = [ENVIRONMENT_PREFIX + "__".join(map(str, location[:end])).upper() for end in range(len(location), 0, -1)]
    return next((f" (from the environment, {name})" for name in names if name in os.environ), "")


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
            here = tagged
            section = tagged if isinstance(tagged, type) and issubclass(tagged, BaseModel) else section
            continue
        path = f"{path}.{part}" if path else part
        if isinstance(here, type) and issubclass(here, BaseModel):
            section = here
            here = _present(here.model_fields[part].annotation) if part in here.model_fields else None
        elif get_origin(here) is Mapping:
            here = get_args(here)[1]
    return path, section


def _present(annotation: Any) -> Any:  # noqa: ANN401 - a type annotation
    """Return what a setting that may be absent is where it is there."""
    members = [member for member in get_args(annotation) if member is not NoneType]
    return members[0] if get_origin(annotation) in (Union, UnionType) and len(members) == 1 else annotation


def _element(annotation: Any) -> Any:  # noqa: ANN401 - a type annotation
    """Return what a sequence holds."""
    found = get_args(annotation)
    return found[0] if found else None


def _tagged(annotation: Any, tag: str) -> Any:  # noqa: ANN401 - a type annotation
    """Return the member of a union that the tag chooses: by its `kind`, or by a `Tag` beside it; None where none is."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, UnionType):
        return None
    for member in get_args(annotation):
        plain, *beside = get_args(member) if get_origin(member) is Annotated else (member,)
        if any(isinstance(each, Tag) and each.tag == tag for each in beside):
            return plain
        fields = plain.model_fields if isinstance(plain, type) and issubclass(plain, BaseModel) else {}
        if "kind" in fields and tag in get_args(fields["kind"].annotation):
            return plain
    return None


def _clipped(value: object) -> str:
    text = repr(str(value)) if isinstance(value, Path) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
