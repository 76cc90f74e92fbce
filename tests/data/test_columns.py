"""The quick ways over long columns give what the plain ways give."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcs_utils.data import columns

WORDS = st.lists(
    st.one_of(st.text(max_size=4), st.sampled_from(["", " a", "a\n", "a..b", "..", "/a", "C:x"])),
    min_size=1,
    max_size=40,
)
QUICK = settings(max_examples=40, deadline=None)  # each is run once for every size of block


@pytest.fixture(params=[1, 7, columns.BLOCK], autouse=True, scope="module")
def block(request):
    """Also with blocks of few rows, so that each test crosses their borders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK", request.param)
        yield


def strings(words):
    return pd.Series(words, dtype="str")


@QUICK
@given(WORDS)
def test_text_is_stripped_text(words):
    got = columns.text(strings(words))
    assert got.tolist() == pd.Series([word.strip() for word in words]).tolist()
    assert columns.text(got) is got  # nothing to change, nothing copied


def test_text_of_numbers_and_of_what_is_missing():
    assert columns.text(pd.Series([1.0, 2.0, np.nan])).tolist() == ["1", "2", ""]
    assert columns.text(pd.Series([1.5, 2.0])).tolist() == ["1.5", "2.0"]
    assert columns.text(strings(["a", None])).tolist() == ["a", ""]
    assert columns.text(pd.Series(["a"]).astype("category")).tolist() == ["a"]


def test_numbers_keep_what_is_missing_apart_from_what_is_wrong():
    got = columns.number(pd.Series(["1", " 2.5", "", None, "x"]))
    np.testing.assert_array_equal(got, [1, 2.5, np.nan, np.nan, -1])
    assert columns.number(pd.Series([3], dtype="int32")).dtype == np.float64


@QUICK
@given(WORDS)
def test_repeated_rows_are_those_of_pandas(words):
    column = strings(words)
    assert columns.repeated(column).tolist() == column.duplicated(keep=False).tolist()
    frame = pd.DataFrame({"a": column, "b": column.str[:1]})
    same = frame.duplicated(keep=False) & (column != "")
    assert columns.same_rows(frame).tolist() == same.tolist()


@QUICK
@given(WORDS)
def test_a_pattern_is_found_where_pandas_finds_it(words):
    column, rule = strings(words), r"^[/~]|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)"
    got = columns.matches(column, rule, ("\n/", "\n~", ":", ".."))
    assert got.tolist() == column.str.contains(rule, regex=True).tolist()


@QUICK
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1))
def test_groups_with_one_value(pairs):
    groups, values = (pd.Series(part) for part in zip(*pairs, strict=True))
    assert columns.has_one(groups, values).tolist() == [
        len({v for g, v in pairs if g == group}) == 1 for group in groups
    ]


@QUICK
@given(WORDS)
def test_a_function_by_value_is_the_function(words):
    column = strings(words).rename("name").set_axis(range(5, 5 + len(words)))
    pd.testing.assert_series_equal(
        columns.by_value(column, lambda s: s.str.upper()), column.str.upper()
    )
    assert columns.by_value(column, lambda s: s) is column


@QUICK
@given(st.one_of(WORDS, st.lists(st.floats(), max_size=9)))
def test_items_are_those_of_json(values):
    assert columns.json_items(values) == json.dumps(values)[1:-1].encode()


def test_parquet_is_read_with_its_metadata_and_without_an_index(tmp_path):
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.0, np.nan]}, index=["k", "l"])
    frame.attrs["pixel_size_um"] = 0.65
    frame.to_parquet(tmp_path / "t.parquet")
    got = columns.read_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(got, frame.reset_index(drop=True))
    assert got.attrs == frame.attrs
