from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inferwatch.errors import InvalidReference
from inferwatch.reference import HEADER, Reference, is_saved, read_reference
from inferwatch.reference.profile import CategoricalProfile, NumericProfile
from inferwatch.rows import Column, Feature, Rows, Schema

RANDOM = np.random.default_rng(11)


def rows(**columns: Any) -> Rows:
    made = tuple(
        Column(name, values if isinstance(values, np.ndarray) else objects(values)) for name, values in columns.items()
    )
    return Rows(made, len(made[0].values))


def objects(cells: Sequence[Any]) -> NDArray[Any]:
    values = np.empty(len(cells), dtype=object)
    values[:] = cells
    return values


def numeric(values: Any) -> NumericProfile:
    [profile] = Reference.build(rows(x=np.asarray(values, dtype=np.float64)), created_ns=0).profile.features
    assert isinstance(profile, NumericProfile)
    return profile


def mixed(count: int = 3000) -> Rows:
    return rows(
        amount=RANDOM.normal(5, 2, count),
        level=RANDOM.integers(0, 4, count).astype(np.float64),
        flag=RANDOM.random(count) < 0.3,
        town=[["Ulm", "Bonn", None][pick] for pick in RANDOM.integers(0, 3, count)],
        empty=np.full(count, np.nan),
    )


def test_kinds_are_learnt_from_the_columns() -> None:
    schema = Reference.build(mixed(), created_ns=0).schema

    assert schema == Schema(
        (
            Feature("amount", "numeric"),
            Feature("level", "numeric"),
            Feature("flag", "categorical", ("false", "true")),
            Feature("town", "categorical", ("Bonn", "Ulm")),
            Feature("empty", "numeric"),
        )
    )


def test_numbers_with_gaps_among_objects_are_numeric() -> None:
    reference = Reference.build(rows(x=[1, 2.5, None, 4]), created_ns=0)

    assert reference.schema.features == (Feature("x", "numeric"),)
    assert np.array_equal(reference.rows[:, 0], [1, 2.5, np.nan, 4], equal_nan=True)


def test_categories_are_in_numeric_order_where_they_are_numbers() -> None:
    reference = Reference.build(rows(x=["10", "9", "b", "a"]), created_ns=0)

    assert reference.schema.features[0].categories == ("9", "10", "a", "b")


def test_declared_features_order_restrict_and_fix() -> None:
    declared = (Feature("level", "categorical"), Feature("town", "categorical", ("Ulm", "Köln")))
    reference = Reference.build(mixed(), features=declared, created_ns=0)

    assert reference.schema.features == (Feature("level", "categorical", ("0", "1", "2", "3")), declared[1])
    town = reference.profile.features[1]
    assert isinstance(town, CategoricalProfile)
    assert town.counts[1] == 0
    assert town.counts[2] > 0  # Bonn is not listed
    assert town.counts[3] > 0


def test_arrays_without_names_take_the_declared_ones_in_order() -> None:
    unnamed = Rows((Column("feature_0", np.arange(9.0)), Column("feature_1", np.ones(9))), 9, named=False)
    reference = Reference.build(unnamed, features=(Feature("a", "numeric"), Feature("b", "numeric")), created_ns=0)

    assert reference.schema.names == ("a", "b")
    assert np.array_equal(reference.rows[:, 0], np.arange(9.0))


@pytest.mark.parametrize(
    ("table", "features", "sentence"),
    [
        (rows(x=np.empty(0)), (), "needs rows and columns, and this has 0 x 1"),
        (Rows((), 5), (), "needs rows and columns, and this has 5 x 0"),
        (rows(x=np.ones(3)), (Feature("age", "numeric"),), "feature 'age' is not among the columns: x"),
        (rows(x=["a", "b"]), (Feature("x", "numeric"),), "'x' is declared numeric, and none of its values is: 'a'"),
    ],
)
def test_unusable_references_are_refused_in_one_sentence(
    table: Rows, features: tuple[Feature, ...], sentence: str
) -> None:
    with pytest.raises(InvalidReference, match=sentence):
        Reference.build(table, features=features, created_ns=0)


def test_a_continuous_feature_has_32_bins_of_equal_share() -> None:
    profile = numeric(RANDOM.normal(size=5000))

    assert len(profile.counts) == 35
    assert profile.counts[[0, -2, -1]].tolist() == [0, 0, 0]
    assert set(profile.counts[1:-2]) <= {156, 157}


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_bins_do_not_depend_on_location_and_scale(scale: float) -> None:
    values = RANDOM.normal(size=2000)

    assert np.array_equal(numeric(values).counts, numeric(1e6 * scale + scale * values).counts)


@pytest.mark.parametrize(
    "values",
    [
        np.full(50, 7.0),
        np.full(50, 1.7e9),
        np.full(50, -1e-9),
        np.zeros(50),
        np.repeat([0.0, 1.0], [1, 999]),
        np.concatenate([np.zeros(600), RANDOM.poisson(3, 400)]),
        RANDOM.standard_cauchy(3000),
        np.array([1.0]),
        np.array([1.0, np.nan, 3.0]),
        1.7e9 + RANDOM.normal(size=500),
    ],
)
def test_every_reference_value_is_within_the_outer_edges_and_ties_stay_together(values: NDArray[Any]) -> None:
    profile = numeric(values)
    present = values[~np.isnan(values)]
    cells = profile.cells(present)

    assert profile.counts.sum() == len(values)
    assert profile.counts[0] == profile.counts[-2] == 0
    assert profile.counts[-1] == np.isnan(values).sum()
    assert (np.diff(profile.edges) > 0).all()
    assert all(len(set(cells[present == value])) == 1 for value in set(present[:50]))
    assert profile.cells(np.array([-np.inf, np.inf, np.nan])).tolist() == [
        0,
        len(profile.edges),
        len(profile.edges) + 1,
    ]
    assert profile.sd == pytest.approx(present.std(), rel=1e-9, abs=1e-300)
    assert (profile.low, profile.high) == (present.min(), present.max())


def test_values_that_cannot_be_learnt_from_count_as_missing() -> None:
    reference = Reference.build(rows(x=np.array([1.0, 2.0, np.inf, -np.inf, 1e200])), created_ns=0)

    assert reference.profile.features[0].counts[-1] == 3
    assert np.isnan(reference.rows[2:, 0]).all()


def test_a_column_without_values_has_only_missing_ones() -> None:
    profile = numeric(np.full(20, np.nan))

    assert profile.counts.tolist() == [0, 20]
    assert profile.cells(np.array([1.0, np.nan])).tolist() == [0, 1]


def test_the_sample_is_drawn_without_replacement_in_order() -> None:
    reference = Reference.build(rows(x=np.arange(10_000.0)), sample_rows=500, created_ns=0)
    other = Reference.build(rows(x=np.arange(10_000.0)), sample_rows=500, created_ns=0, seed=1)

    assert reference.rows.shape == (500, 1)
    assert (np.diff(reference.rows[:, 0]) > 0).all()
    assert not np.array_equal(reference.rows, other.rows)
    assert reference.count == 10_000


def test_the_autocorrelation_is_the_largest_and_only_of_ordered_rows() -> None:
    walk = np.cumsum(RANDOM.normal(size=4000))
    table = rows(noise=RANDOM.normal(size=4000), walk=walk)
    ordered = Reference.build(table, ordered=True, created_ns=0)
    centred = walk - walk.mean()

    assert ordered.autocorrelation == pytest.approx(centred[1:] @ centred[:-1] / (centred @ centred))
    assert Reference.build(table, created_ns=0).autocorrelation is None


def test_the_autocorrelation_of_categories_is_that_of_their_indicators() -> None:
    sticky = np.repeat(RANDOM.integers(0, 3, 1000), 4).astype(str).astype(object)
    reference = Reference.build(rows(town=sticky), ordered=True, created_ns=0)

    assert reference.autocorrelation == pytest.approx(0.75, abs=0.03)


def test_a_saved_reference_is_read_back_whole(tmp_path: Path) -> None:
    reference = Reference.build(mixed(), ordered=True, created_ns=123)
    path = tmp_path / "any.name"
    reference.save(path)
    read = Reference.load(path)

    assert read.dump() == reference.dump()
    assert (read.schema, read.count, read.created_ns, read.ordered) == (reference.schema, 3000, 123, True)
    assert read.autocorrelation == reference.autocorrelation
    assert np.array_equal(read.rows, reference.rows, equal_nan=True)
    for one, two in zip(read.profile.features, reference.profile.features, strict=True):
        assert np.array_equal(one.counts, two.counts)
    assert read_reference(path, created_ns=0).id == reference.id


def test_the_id_follows_the_content_and_not_the_moment() -> None:
    table = mixed()

    assert Reference.build(table, created_ns=1).id == Reference.build(table, created_ns=2).id
    assert Reference.build(table, created_ns=1).id != Reference.build(mixed(), created_ns=1).id


def test_a_profile_of_20_columns_takes_at_most_8_kilobytes() -> None:
    table = rows(**{f"x{index}": RANDOM.normal(size=5000) for index in range(20)})

    assert len(Reference.build(table, sample_rows=0, created_ns=0).dump()) <= 8192


def test_a_saved_reference_can_be_restricted_and_reordered(tmp_path: Path) -> None:
    path = tmp_path / "reference"
    Reference.build(mixed(), created_ns=0).save(path)
    read = read_reference(path, features=(Feature("town", "categorical"), Feature("amount", "numeric")), created_ns=0)

    assert read.schema.names == ("town", "amount")
    assert read.rows.shape == (3000, 2)
    assert isinstance(read.profile.features[0], CategoricalProfile)


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [
        (Feature("age", "numeric"), "feature 'age' is not among the columns: amount"),
        (Feature("town", "numeric"), "'town' is numeric, the saved reference has it as categorical with"),
        (Feature("town", "categorical", ("Ulm",)), "with the categories Ulm, the saved reference"),
    ],
)
def test_a_saved_reference_refuses_what_it_does_not_have(tmp_path: Path, feature: Feature, sentence: str) -> None:
    path = tmp_path / "reference"
    Reference.build(mixed(), created_ns=0).save(path)

    with pytest.raises(InvalidReference, match=sentence):
        read_reference(path, features=(feature,), created_ns=0)


@pytest.mark.parametrize("cut", [10, 200, -40])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "reference.ref"
    path.write_bytes(Reference.build(mixed(), created_ns=0).dump()[:cut])

    with pytest.raises(InvalidReference, match=r"reference\.ref"):
        Reference.load(path)


def test_every_flipped_byte_is_read_or_refused() -> None:
    data = Reference.build(rows(x=np.arange(20.0), y=["a", "b"] * 10), created_ns=0).dump()
    for place in range(0, len(data), 7):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        try:
            Reference.parse(bytes(broken))
        except InvalidReference as error:
            assert "\n" not in str(error)  # noqa: PT017 - reading it is fine too


def test_a_reference_is_known_by_its_content(tmp_path: Path) -> None:
    saved, table = tmp_path / "saved.npz", tmp_path / "table.npz"
    Reference.build(mixed(), created_ns=0).save(saved)
    np.savez(table, X=np.ones((4, 2)))

    assert is_saved(saved)
    assert not is_saved(table)
    assert not is_saved(tmp_path / "absent")
    assert HEADER.endswith(".json")
