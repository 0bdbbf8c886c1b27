import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from inferwatch.errors import InvalidReference
from inferwatch.reference import Reference, read_reference
from inferwatch.rows import Feature
from inferwatch.tables import read_table


def kinds(path: Path) -> dict[str, str]:
    return {f.name: f.kind for f in Reference.build(read_table(path), created_ns=0).schema.features}


def test_csv_columns_keep_names_kinds_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("age,town,member\n41,Ulm,true\n,Bonn,false\n17,,true\n")
    table = read_table(path)

    assert table.names == ("age", "town", "member")
    assert np.array_equal(table.columns[0].values, [41, np.nan, 17], equal_nan=True)
    assert table.columns[1].values.tolist() == ["Ulm", "Bonn", None]
    assert kinds(path) == {"age": "numeric", "town": "categorical", "member": "categorical"}


def test_a_written_index_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(",age\n0,41\n1,17\n")

    assert read_table(path).names == ("age",)


def test_parquet_types_become_numbers_or_categories(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    columns = {
        "whole": pa.array([1, None, 3]),
        "part": pa.array([0.5, 1.5, None]),
        "money": pa.array([Decimal("1.25"), Decimal("2.50"), None]),
        "flag": pa.array([True, False, None]),
        "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
        "day": pa.array([datetime.date(2026, 1, 2)] * 3),
        "nothing": pa.array([None, None, None]),
    }
    parquet.write_table(pa.table(columns), path)
    reference = read_reference(path, created_ns=0)

    assert [f.kind for f in reference.schema.features] == ["numeric"] * 3 + ["categorical"] * 3 + ["numeric"]
    assert reference.rows[:, 2].tolist()[:2] == [1.25, 2.5]
    assert reference.schema.decode(reference.rows)[0][5] == "2026-01-02"


def test_parquet_of_pandas_comes_without_its_index(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "table.parquet"
    frame = pandas.DataFrame({"x": [1.0, 2.0], "c": pandas.Categorical([16, 17])}, index=["p", "q"])
    frame.to_parquet(path)
    reference = read_reference(path, created_ns=0)

    assert reference.schema.features == (Feature("x", "numeric"), Feature("c", "categorical", ("16", "17")))


@pytest.mark.parametrize("named", ["X", "anything"])
def test_arrays_have_positions_for_names(tmp_path: Path, named: str) -> None:
    values = np.arange(6).reshape(3, 2)
    np.save(tmp_path / "table.npy", values)
    arrays: dict[str, Any] = {named: values, **({"y": np.ones(3)} if named == "X" else {})}
    np.savez(tmp_path / "table.npz", **arrays)

    for ending in ("npy", "npz"):
        table = read_table(tmp_path / f"table.{ending}")
        assert table.names == ("feature_0", "feature_1")
        assert not table.named
        assert table.columns[1].values.tolist() == [1.0, 3.0, 5.0]


def test_structured_and_text_arrays_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.array([(1, "u"), (2, "v")], dtype=[("n", "i4"), ("t", "U3")]))

    assert kinds(tmp_path / "s.npy") == {"n": "numeric", "t": "categorical"}
    np.savez(tmp_path / "s.npz", n=np.array([1, 2]), t=np.array(["u", "v"]))
    assert kinds(tmp_path / "s.npz") == {"n": "numeric", "t": "categorical"}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("absent.csv", None, r"there is no file .*absent\.csv"),
        ("table.xlsx", b"PK", r"table\.xlsx has an unknown ending; read are \.csv"),
        ("broken.csv", b"a,b\n1,2\n1,2,3\n", r"broken\.csv cannot be read"),
        ("empty.csv", b"", r"empty\.csv cannot be read"),
        ("heading.csv", b"a,b\n", r"heading\.csv: a reference needs rows and columns, and this has 0 x 2"),
        ("broken.parquet", b"nothing of the kind", r"broken\.parquet cannot be read"),
        ("broken.npy", b"nothing of the kind", r"broken\.npy cannot be read"),
        ("broken.npz", b"PK\x03\x04", r"broken\.npz cannot be read"),
    ],
)
def test_faults_are_one_sentence_that_names_the_file(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidReference, match=sentence) as caught:
        read_reference(path, created_ns=0)
    assert "\n" not in str(caught.value)


def test_arrays_of_python_objects_and_wrong_shapes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([{}, {}]), allow_pickle=True)
    np.save(tmp_path / "cube.npy", np.ones((2, 2, 2)))
    np.savez(tmp_path / "two.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    np.savez(tmp_path / "uneven.npz", a=np.ones(2), b=np.ones(3))

    told = {
        "pickled.npy": "cannot be read",
        "cube.npy": r"\(2, 2, 2\)",
        "two.npz": "arrays a, b",
        "uneven.npz": "arrays a, b",
    }
    for name, sentence in told.items():
        with pytest.raises(InvalidReference, match=sentence):
            read_table(tmp_path / name)
