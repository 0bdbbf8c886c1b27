"""Arrays and a JSON header in one zip file: the same bytes for the same content, read without unpickling anything."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What reading a damaged zip raises, beside `KeyError` and `ValueError`: flags and methods that it seems to ask for."""


def pack(name: str, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a zip with the header as JSON under `name` and each array as `key.npy`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_member(name), json.dumps(header, sort_keys=True))
        for key, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(_member(f"{key}.npy"), content.getvalue())
    return file.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)  # its date is the zip format's first day, so that the bytes depend on nothing else
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def unpack(name: str, data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the header under `name` and the arrays by key.

    Raises `KeyError`, `ValueError` or one of `DAMAGES` for bytes that are no such archive.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        header = json.loads(archive.read(name))
        arrays = {
            key.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(key)), allow_pickle=False)
            for key in archive.namelist()
            if key.endswith(".npy")
        }
    return header, arrays


def holds(path: str | Path, name: str) -> bool:
    """Return whether a file is a zip with a member of that name."""
    try:
        with zipfile.ZipFile(path) as archive:
            return name in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
