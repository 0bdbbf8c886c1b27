"""References: what a model's rows looked like when all was well, in one file.

A reference is a profile of all its rows (cells and moments, a few kilobytes) and a random sample of them, which exact
tests, conformal scores and Shapley backgrounds use. The file is a zip of NumPy arrays and a JSON header, written the
same bytes for the same content, and read without unpickling anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.derived import arrays, column_of, derived
from inferwatch.errors import InvalidReference
from inferwatch.listing import listed
from inferwatch.reference.archive import DAMAGES, holds, pack, unpack
from inferwatch.reference.learning import learn_feature, measures_of
from inferwatch.reference.profile import LARGEST, CategoricalProfile, FeatureProfile, NumericProfile, Profile
from inferwatch.rows import Column, Feature, Matrix, Rows, Schema, with_derived
from inferwatch.tables import read_table

FORMAT = 1
HEADER = "inferwatch-reference.json"


@dataclass(frozen=True, eq=False)
class Reference:
    """What live rows are compared with.

    `rows` (m, d) is a random sample of the `count` rows, in their order, as `schema` encodes them; a number beyond
    `LARGEST` is NaN there. `ordered` says that the rows are known to be in time order, as logged traffic is, and
    `autocorrelation` is then the largest lag-1 autocorrelation over the features, in [-1, 1]; None otherwise.
    """

    schema: Schema
    rows: Matrix
    count: int
    created_ns: int
    ordered: bool
    profile: Profile
    autocorrelation: float | None = None

    @classmethod
    def build(
        cls,
        rows: Rows,
        *,
        features: Sequence[Feature] = (),
        also: Sequence[str] = (),
        sample_rows: int = 5000,
        ordered: bool = False,
        created_ns: int,
        seed: int = 0,
    ) -> Reference:
        """Return the reference of rows.

        `features` names, orders and restricts the columns and fixes their kinds and categories, and may name what is
        derived from a column (`inferwatch.derived`); without it columns of numbers are numeric, flags, categories and
        mixtures categorical, and for a column of texts or of arrays stands what is derived of it
        (`learning.measures_of`). `also` names columns that follow the features, their kinds learnt. Raises
        `InvalidReference` for no rows, no columns, or a feature or a column of `also` that is not among the columns.
        """
        if not rows.count or not rows.columns:
            raise InvalidReference(
                f"a reference needs rows and columns, and this has {rows.count} x {len(rows.columns)}"
            )
        chosen = _chosen(with_derived(rows, tuple(feature.name for feature in features)), features, also)
        schema = Schema(tuple(learn_feature(feature, column) for feature, column in chosen))
        columns = tuple(Column(name, column.values) for name, (_, column) in zip(schema.names, chosen, strict=True))
        values = schema.encode(Rows(columns, rows.count)).values
        built = cls.encoded(schema, values, sample_rows=sample_rows, ordered=ordered, created_ns=created_ns, seed=seed)
        _refuse_unparsed(chosen, built.profile)
        return built

    @classmethod
    def encoded(
        cls,
        schema: Schema,
        values: Matrix,
        *,
        sample_rows: int = 5000,
        ordered: bool = False,
        created_ns: int,
        seed: int = 0,
    ) -> Reference:
        """Return the reference of rows (n, d) that the schema has encoded."""
        values = np.where(np.abs(values) >= LARGEST, np.nan, values)
        profile = Profile.of(values, schema.features)
        order = np.sort(np.random.default_rng(seed).permutation(len(values))[:sample_rows])
        dependence = _autocorrelation(values, profile) if ordered else None
        return cls(schema, values[order], len(values), created_ns, ordered, profile, dependence)

    @cached_property
    def id(self) -> str:
        """A hash of the content: equal for equal rows and schemas, whenever they were made."""
        header, arrays = self._content()
        told = blake2b(json.dumps(header | {"created_ns": 0}, sort_keys=True).encode(), digest_size=12)
        for array in arrays.values():
            told.update(np.ascontiguousarray(array).data)
        return told.hexdigest()

    def select(self, features: Sequence[Feature]) -> Reference:
        """Return the reference of these features alone, in this order.

        Raises `InvalidReference` for a feature that is not there or is of another kind or of other categories.
        """
        known = {feature.name: index for index, feature in enumerate(self.schema.features)}
        indices = [known[feature.name] for feature in features if feature.name in known]
        if len(indices) < len(features):
            raise InvalidReference(_absent(features, tuple(known)))
        for feature, index in zip(features, indices, strict=True):
            own = self.schema.features[index]
            if own.kind != feature.kind or (feature.categories and feature.categories != own.categories):
                raise InvalidReference(
                    f"feature {own.name!r} is {_described(feature)}, the saved reference has it as {_described(own)}"
                )
        return replace(
            self,
            schema=Schema(tuple(self.schema.features[index] for index in indices)),
            rows=self.rows[:, indices],
            profile=Profile(tuple(self.profile.features[index] for index in indices)),
        )

    def dump(self) -> bytes:
        """Return the bytes of the file; the same for the same content."""
        return pack(HEADER, *self._content())

    def _content(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays = {"rows": self.rows, "counts": _joined([entry.counts for entry in self.profile.features], np.uint32)}
        numeric = [entry for entry in self.profile.features if isinstance(entry, NumericProfile)]
        arrays["offsets"] = _joined([entry.offsets for entry in numeric], np.float32)
        arrays["moments"] = np.array([(e.mean, e.sd, e.low, e.high) for e in numeric], dtype=np.float64).reshape(-1, 4)
        header = {
            "format": FORMAT,
            "features": [{"name": f.name, "kind": f.kind, "categories": f.categories} for f in self.schema.features],
            "edges": [len(entry.offsets) for entry in numeric],
            "count": self.count,
            "created_ns": self.created_ns,
            "ordered": self.ordered,
            "autocorrelation": self.autocorrelation,
        }
        return header, arrays

    @classmethod
    def parse(cls, data: bytes) -> Reference:
        """Return the reference whose file has these bytes. Raises `InvalidReference` where they are none."""
        try:
            header, arrays = unpack(HEADER, data)
            if header["format"] != FORMAT:
                raise InvalidReference(f"a saved reference of format {header['format']}; this version reads {FORMAT}")
            features = tuple(Feature(f["name"], f["kind"], tuple(f["categories"])) for f in header["features"])
            profile = _parsed_profile(features, header["edges"], arrays)
            rows = np.asarray(arrays["rows"], dtype=np.float64).reshape(-1, len(features))
            count, created_ns, ordered = int(header["count"]), int(header["created_ns"]), bool(header["ordered"])
            return cls(Schema(features), rows, count, created_ns, ordered, profile, header["autocorrelation"])
        except InvalidReference:
            raise
        except (*DAMAGES, KeyError, ValueError, TypeError, IndexError) as error:
            raise InvalidReference(f"a damaged saved reference: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the file."""
        Path(path).write_bytes(self.dump())

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Return the reference of a file. Raises `InvalidReference`, naming the file."""
        try:
            return cls.parse(Path(path).read_bytes())
        except OSError as error:
            raise InvalidReference(f"{path} cannot be read: {error.strerror}") from error
        except InvalidReference as error:
            raise InvalidReference(f"{path}: {error}") from error


def read_reference(
    path: str | Path,
    *,
    features: Sequence[Feature] = (),
    also: Sequence[str] = (),
    sample_rows: int = 5000,
    created_ns: int,
) -> Reference:
    """Return the reference of a file: a saved one, known by its content, or a table (CSV, Parquet, npy, npz).

    `features` and `also` are as in `Reference.build`; `sample_rows` and `created_ns` are for tables, a saved reference
    has its own. Raises `InvalidReference` in one sentence that names the file.
    """
    source = Reference.load(path) if is_saved(path) else read_table(path)
    try:
        if isinstance(source, Rows):
            return Reference.build(source, features=features, also=also, sample_rows=sample_rows, created_ns=created_ns)
        names = source.schema.names
        own = {
            name: [each for each in source.schema.features if name in (each.name, column_of(each.name, names))]
            for name in also
        }
        if missing := [name for name in also if not own[name]]:
            raise InvalidReference(f"output {missing[0]!r} is not among the columns: {listed(names, 20)}")
        return source.select([*features, *(each for name in also for each in own[name])]) if features else source
    except InvalidReference as error:
        raise InvalidReference(f"{path}: {error}") from error


def is_saved(path: str | Path) -> bool:
    """Return whether a file is a saved reference, whatever its name."""
    return holds(path, HEADER)


def _chosen(rows: Rows, features: Sequence[Feature], also: Sequence[str]) -> list[tuple[Feature | None, Column]]:
    by_name = {column.name: column for column in rows.columns}
    for name in also:
        if name not in by_name:
            raise InvalidReference(f"output {name!r} is not among the columns: {listed(tuple(by_name), 20)}")
    if not features:
        return [each for column in rows.columns for each in _undeclared(column)]
    if not rows.named and len(rows.columns) == len(features):
        by_name = {feature.name: column for feature, column in zip(features, rows.columns, strict=True)}
    if any(feature.name not in by_name for feature in features):
        raise InvalidReference(_absent(features, tuple(by_name)))
    further = (each for name in also for each in _undeclared(by_name[name]))
    return [*((feature, by_name[feature.name]) for feature in features), *further]


def _undeclared(column: Column) -> list[tuple[Feature | None, Column]]:
    measures = measures_of(column)
    if not measures:
        return [(None, column)]
    cells = arrays(column.values)
    return [(None, Column(f"{column.name}.{what}", derived(cells, what))) for what in measures]


def _refuse_unparsed(chosen: Sequence[tuple[Feature | None, Column]], profile: Profile) -> None:
    for (declared, column), entry in zip(chosen, profile.features, strict=True):
        if declared is None or entry.observed or column.values.dtype != object:
            continue
        sample = next((cell for cell in column.values.tolist() if cell is not None), None)
        if sample is not None:
            raise InvalidReference(
                f"feature {declared.name!r} is declared numeric, and none of its values is: {sample!r}"
            )


def _absent(features: Sequence[Feature], names: Sequence[str]) -> str:
    missing = next(feature.name for feature in features if feature.name not in names)
    return f"feature {missing!r} is not among the columns: {listed(names, 20)}"


def _described(feature: Feature) -> str:
    return f"{feature.kind} with the categories {', '.join(feature.categories)}" if feature.categories else feature.kind


def _autocorrelation(values: Matrix, profile: Profile) -> float | None:
    """The largest lag-1 autocorrelation: of the numbers, and of the indicators of the categories taken together."""
    if len(values) < 3:
        return None
    found = [
        _lag1(
            column[:, np.newaxis]
            if isinstance(entry, NumericProfile)
            else np.eye(len(entry.counts))[entry.cells(column)]
        )
        for column, entry in zip(values.T, profile.features, strict=True)
    ]
    present = [value for value in found if value is not None]
    return max(present) if present else None


def _lag1(series: Matrix) -> float | None:
    centred = series - np.nanmean(series, axis=0) if not np.isnan(series).all() else np.zeros_like(series)
    centred = np.nan_to_num(centred)
    total = float((centred**2).sum())
    return float((centred[1:] * centred[:-1]).sum()) / total if total > 0 else None


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.empty(0), *parts]).astype(dtype)


def _parsed_profile(features: Sequence[Feature], edges: Sequence[int], arrays: Mapping[str, NDArray[Any]]) -> Profile:
    inner = iter(map(int, edges))
    sizes = [(next(inner) if feature.kind == "numeric" else len(feature.categories)) + 2 for feature in features]
    counts = np.split(arrays["counts"].astype(np.int64), np.cumsum(sizes)[:-1])
    if any(len(part) != size for part, size in zip(counts, sizes, strict=True)):
        raise ValueError("the counts do not fit the features")
    offsets = iter(np.split(arrays["offsets"].astype(np.float32), np.cumsum(list(edges))[:-1]))
    moments = iter(arrays["moments"].tolist())
    entries: list[FeatureProfile] = [
        NumericProfile(next(offsets), part, *next(moments)) if feature.kind == "numeric" else CategoricalProfile(part)
        for feature, part in zip(features, counts, strict=True)
    ]
    return Profile(tuple(entries))
