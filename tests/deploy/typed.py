"""Holds Kubernetes objects to the models of the `kubernetes` client, which refuse unknown, missing and mistyped fields.

Run by an interpreter that has the client: a JSON list of objects on standard input, a JSON list of faults on standard
output.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import kubernetes.client as kubernetes  # type: ignore[import-not-found]
from pydantic import ValidationError


def faults(item: Any) -> Iterator[str]:
    try:
        getattr(kubernetes, f"V1{item['kind']}").model_validate(item)
    except ValidationError as invalid:
        for fault in invalid.errors():
            yield f"{'.'.join(map(str, (item['kind'], *fault['loc'])))}: {fault['msg']}"


def main() -> None:
    json.dump([fault for item in json.load(sys.stdin) for fault in faults(item)], sys.stdout)


if __name__ == "__main__":
    main()
