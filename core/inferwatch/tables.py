"""Tables in files, read as rows: CSV, Parquet, NumPy."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import category, objects
from inferwatch.errors import InferwatchError, InvalidReference, MissingExtra
from inferwatch.rows import Column, Rows


def read_table(path: str | Path) -> Rows:
    """Return the rows of a CSV, Parquet, npy or npz file, told apart by the ending of its name.

    Of an npz the array `X` is read, or the only one, or each array as a column. Arrays without names get `feature_0`,
    `feature_1`, ... . A CSV's first column without a name, and Parquet's index columns, are a written index and left
    out. Whole numbers stay so, but beside missing ones they are fractions, unless that would round one. Raises
    `InvalidReference` for a file that is missing, unreadable or no table, `MissingExtra` where pyarrow is needed.
    """
    path = Path(path)
    if not path.exists():
        raise InvalidReference(f"there is no file {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidReference(
            f"{path} has an unknown ending; read are {', '.join(sorted(_READERS))} and saved references"
        )
    try:
        return reader(path)
    except InferwatchError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:  # pyarrow's faults are ValueErrors
        reason = " ".join(str(error).split())
        raise InvalidReference(f"{path} cannot be read: {reason or type(error).__name__}") from error


def _read_csv(path: Path) -> Rows:
    try:
        from pyarrow import csv
    except ImportError as error:
        raise MissingExtra("reading CSV", "store") from error
    table = csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))
    return _of_arrow(table)


def _read_parquet(path: Path) -> Rows:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet", "store") from error
    return _of_arrow(parquet.read_table(path))


def _read_npy(path: Path) -> Rows:
    with path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise InvalidReference(f"{path} holds no array")
    return _of_array(array, path)


def _read_npz(path: Path) -> Rows:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        names = list(archive.files)
        if "X" in names or len(names) == 1:
            return _of_array(archive["X" if "X" in names else names[0]], path)
        columns = tuple(Column(name, _plain(archive[name])) for name in names)
    shapes = {column.values.shape for column in columns}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1:
        held = ", ".join(names) or "(none)"
        raise InvalidReference(f"{path} holds the arrays {held}; one, one named X, or columns of one length are needed")
    return Rows(columns, shape[0])


_READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npy": _read_npy,
    ".npz": _read_npz,
}


def _of_array(array: NDArray[Any], path: Path) -> Rows:
    if array.dtype.names is not None:
        columns = tuple(Column(name, _plain(array[name])) for name in array.dtype.names)
        return Rows(columns, len(array))
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise InvalidReference(f"{path} holds an array of shape {array.shape}; rows and columns are needed")
    columns = tuple(Column(f"feature_{index}", _plain(array[:, index])) for index in range(array.shape[1]))
    return Rows(columns, len(array), named=False)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind in "biu":
        return values
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return objects([str(cell) for cell in values.tolist()])


def _of_arrow(table: Any) -> Rows:  # noqa: ANN401 - pyarrow has no types
    names = [str(name) for name in table.column_names]
    kept = [
        index
        for index, name in enumerate(names)
        if not name.startswith("__index_level_") and not (index == 0 and name == "" and len(names) > 1)
    ]
    about = (table.schema.pandas_metadata or {}).get("columns", ())
    categorical = {entry["field_name"] for entry in about if entry["pandas_type"] == "categorical"}
    columns = (Column(names[i], _arrow_values(table.column(i), names[i] in categorical)) for i in kept)
    return Rows(tuple(columns), table.num_rows)


def _arrow_values(column: Any, categorical: bool) -> NDArray[Any]:  # noqa: ANN401 - pyarrow has no types
    from pyarrow import types

    kind = column.type
    if categorical or types.is_dictionary(kind):
        return objects([category(cell) for cell in column.to_pylist()])
    if types.is_integer(kind) and not column.null_count:
        return np.asarray(column.to_numpy())
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        with suppress(ValueError):  # of a whole number that no float is, beside a null
            return np.asarray(column.cast("float64").to_numpy(zero_copy_only=False), dtype=np.float64)
    cells = column.to_pylist()
    if types.is_null(kind):
        return np.full(len(cells), np.nan)
    if types.is_boolean(kind):
        return objects(cells) if column.null_count else np.array(cells, dtype=bool)
    return objects([cell.isoformat() if isinstance(cell, (datetime, date, time)) else cell for cell in cells])
