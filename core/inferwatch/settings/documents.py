"""YAML files as mappings, read as YAML 1.2 has it where PyYAML's older rules would surprise."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from inferwatch.errors import ConfigError, Fault

_FLAG = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """Takes only `true` and `false` for flags, so that the key `on` is text, and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"key {key.value!r} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _FLAG]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_FLAG, re.compile("(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_document(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; none for an empty file. Raises `ConfigError`, naming the file."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as fault:
        raise ConfigError([Fault(str(path), fault.strerror or str(fault))]) from fault
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise ConfigError([Fault(str(path), f"not YAML: {' '.join(str(fault).split())}")]) from fault
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError([Fault(str(path), "the file is to hold one mapping of settings")])
    return document
