"""Plates: every well once, controls where they belong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcs_utils.data.screens.layouts import layout
from hcs_utils.errors import InputError


@given(
    treatments=st.integers(1, 90),
    wells=st.integers(1, 4),
    negcon=st.integers(1, 32),
    poscon=st.integers(0, 8),
    columns=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_every_content_has_its_wells(treatments, wells, negcon, poscon, columns, seed):
    rng = np.random.default_rng(seed)
    table = layout(treatments, wells, negcon, poscon, columns, rng)
    counts = table["treatment"].value_counts()
    assert counts.get(-1) == negcon and counts.get(-2, 0) == poscon
    assert (counts.reindex(range(treatments)) == wells).all()
    assert table["well"].is_unique and table["well"].str.fullmatch("(A[A-F]|[A-Z])[0-9]{2}").all()
    assert table["edge"].between(0, 1).all() and table["across"].between(-1, 1).all()
    assert table["down"].between(-1, 1).all()


def test_controls_in_columns_are_in_the_outermost_ones():
    table = layout(240, 1, 28, 4, True, np.random.default_rng(0))
    column = table["well"].str[-2:].astype(int)
    assert set(column[table["treatment"] < 0]) == {1, 24}  # of a 384-well plate
    assert column[table["treatment"] >= 0].between(2, 23).all()
    scattered = layout(240, 1, 28, 4, False, np.random.default_rng(0))
    column = scattered["well"].str[-2:].astype(int)
    assert column[scattered["treatment"] < 0].nunique() > 10


def test_the_rim_is_the_edge():
    table = layout(94, 1, 1, 1, False, np.random.default_rng(0))
    rim = table["well"].str[0].isin(["A", "H"]) | table["well"].str[1:].isin(["01", "12"])
    assert (table["edge"] == 1).equals(rim) and len(table) == 96


def test_too_many_wells_are_told():
    with pytest.raises(InputError, match="1537 wells do not fit on a 1536-well plate"):
        layout(1536, 1, 1, 0, False, np.random.default_rng(0))
