"""The path of benchmarks/molecules.py, on a table of 400 compounds."""

import pandas as pd
import pytest
from rdkit import Chem

from benchmarks import molecules as scale
from hcs_utils import records

COMPOUNDS = 400


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("scale") / "table.parquet"
    scale.make(path, COMPOUNDS)
    return path


@pytest.fixture(scope="module")
def done(table):
    return {name: scale.step(name, table) for name in scale.STEPS}


def test_the_generated_molecules_can_be_read_and_differ():
    smiles = scale.molecules(COMPOUNDS)
    read = [Chem.MolFromSmiles(one) for one in smiles]
    assert None not in read and len({Chem.MolToSmiles(one) for one in read}) > 0.97 * COMPOUNDS
    assert sum("." in Chem.MolToSmiles(one) for one in read) == -(-COMPOUNDS // 30)
    with pytest.raises(ValueError, match="more than"):
        scale.molecules(10**7)


def test_the_table_is_laid_out_as_a_screen(table):
    frame = pd.read_parquet(table)
    assert frame["site_id"].is_unique and not frame.duplicated(["plate", "well"]).all()
    wells = frame.drop_duplicates(["plate", "well"])
    assert (wells.groupby("plate")["well"].nunique() <= 384).all()
    assert len(frame) == len(wells) * scale.FIELDS
    assert frame.groupby(["plate", "well"])["compound"].nunique().eq(1).all()
    treated = wells[wells["role"] == "trt"].groupby("compound")["source"]
    assert treated.nunique().eq(scale.WELLS).all() and treated.size().eq(scale.WELLS).all()
    assert len(treated) == COMPOUNDS


def test_every_step_runs_and_its_rows_can_be_saved(done, tmp_path):
    assert done["graphs"]["molecules"] >= 0.97 * COMPOUNDS and done["graphs"]["processors"] > 0
    assert abs(done["compound"]["test_share"] - 0.1) < 0.02
    assert done["sampling"]["compounds"] == COMPOUNDS
    rows = scale.rows(done)
    for row in rows:
        saved = records.save_benchmark(**row, root=tmp_path)
        assert saved["ratio"] > 0
    assert set(records.load_benchmarks(tmp_path)["name"]) == {row["name"] for row in rows}
