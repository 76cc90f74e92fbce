"""The simulated screen: the same bytes from one seed, a real screen's files, a planted truth."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile

from hcs_utils.data import manifest as manifests
from hcs_utils.data.screens import faults, simulated, tiff
from hcs_utils.data.screens.drawing import CHANNELS, TRAITS
from hcs_utils.data.screens.simulated import SimulatedConfig, draw, plate_fields, truth
from hcs_utils.errors import InputError
from hcs_utils.evaluation.leaks import intensity_statistics
from hcs_utils.evaluation.metrics import knn_accuracy
from hcs_utils.evaluation.postprocess import zscore_by_controls
from hcs_utils.files import sha256

TINY = SimulatedConfig(
    treatments=4, doses_um=(0.5, 5.0), batches=3, wells=2, control_wells=2, positive_wells=1,
    sites=2, size=24, fault_rate=0.2,
)  # fmt: skip
WELLS = 4 * 2 + 2 + 1


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("screen") / "tiny", TINY, workers=1)


def fingerprint(root):
    return {str(p.relative_to(root)): sha256(p) for p in sorted(root.rglob("*")) if p.is_file()}


# The same bytes


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(root, tmp_path):
    again = fingerprint(draw(tmp_path / "again", TINY, workers=3))
    assert again == fingerprint(root)
    other = fingerprint(draw(tmp_path / "other", replace(TINY, seed=1), workers=2))
    tiffs = [name for name in again if name.endswith(".tiff")]
    assert len(tiffs) == 6 * WELLS * 2 * len(CHANNELS)
    assert not any(again[name] == other.get(name) for name in tiffs)


def test_a_drawn_screen_is_left_alone_and_a_lost_table_comes_back(root):
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}
    content = fingerprint(root)
    draw(root, TINY)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()} == before
    (root / "platemap.csv").unlink()
    draw(root, TINY)
    assert fingerprint(root) == content


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_kill_9_ends_the_workers_and_the_same_call_gives_the_same_bytes(tmp_path):
    config = replace(TINY, batches=12, sites=4, size=48)
    code = (
        "from hcs_utils.data.screens.simulated import *\n"
        f"draw({str(tmp_path / 'killed')!r}, {config!r}, workers=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    finished, workers = tmp_path / "killed" / "plates", []
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            if len(list(finished.glob("*.parquet"))) >= 2:  # whole plates, no part of one
                workers = children(process.pid)
                break
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "drawn before it could be killed"
    assert len(workers) == 2
    until = time.monotonic() + 20
    while any(Path(f"/proc/{p}").exists() and "Z" not in state(p) for p in workers):
        assert time.monotonic() < until, "a worker goes on drawing"
        time.sleep(0.02)
    done = [p.name for p in finished.glob("*.parquet")]
    assert 2 <= len(done) < 24 and not (tmp_path / "killed" / "truth.parquet").exists()
    with pytest.raises(InputError, match="goes on where it stopped"):
        simulated.manifest(tmp_path / "killed")
    kept = {name: (finished / name).stat().st_mtime_ns for name in done}
    draw(tmp_path / "killed", config)
    assert {name: (finished / name).stat().st_mtime_ns for name in done} == kept  # not again
    whole = fingerprint(draw(tmp_path / "whole", config))
    assert {k: v for k, v in fingerprint(tmp_path / "killed").items() if ".part" not in k} == whole


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


# The files of a real screen


def test_manifest_counts_plates_wells_sites_and_controls(root):
    table = manifests.validate(simulated.manifest(root), root)
    assert manifests.channels(table) == CHANNELS
    assert len(table) == 3 * 2 * WELLS * 2
    per_plate = table.groupby("plate")
    assert len(per_plate) == 6 and (per_plate["batch"].nunique() == 1).all()
    wells = table.drop_duplicates(["plate", "well"])
    counts = wells.groupby(["plate", "treatment"]).size().unstack()
    assert dict(counts.iloc[0]) == {
        "DMSO": 2, "SIM-0000@0.5um": 2, "SIM-0000@5um": 2, "SIM-0001@0.5um": 2,
        "SIM-0001@5um": 2, "SIM-0002@5um": 1,
    }  # fmt: skip
    assert (counts == counts.iloc[0]).all(axis=None)
    assert (table["role"] == "negcon").equals(table["compound"] == "DMSO")
    assert (table["role"] == "poscon").equals(table["compound"] == "SIM-0002")
    assert (table["smiles"] != "").all() and table["source"].nunique() == 2
    known = simulated.compound_truth(root).set_index("compound")
    assert (table["smiles"] == table["compound"].map(known["smiles"]).fillna("CS(C)=O")).all()


def test_images_are_16_bit_tiffs_of_the_stated_size(root):
    table = simulated.manifest(root)
    for channel in CHANNELS:
        plane = tifffile.imread(root / table[f"path_{channel}"][5])
        assert plane.shape == (24, 24) and plane.dtype == np.uint16 and plane.std() > 0
    assert json.loads((root / "simulated.json").read_text())["treatments"] == 4


def test_masks_lie_where_truth_says_and_show_the_faulty_pixels(root):
    known = truth(root)
    spoilt = known[known["fault"] != ""]
    assert 0.1 < len(spoilt) / len(known) < 0.4 and (spoilt["severity"] >= 0.3).all()
    assert set(spoilt["fault"]) <= set(faults.FAULTS) and len(set(spoilt["fault"])) > 3
    local = known[known["mask"] != ""]
    assert set(local["fault"]) == set(faults.LOCAL)
    assert set(local["mask"]) == {
        str(p.relative_to(root)) for p in (root / "truth" / "masks").rglob("*.png")
    }
    for row in local[local["fault"] == "saturation"].itertuples():
        folder, stem = root / "images" / row.plate, f"{row.well}_s{row.site}"
        site = np.stack([tifffile.imread(folder / f"{stem}_{c}.tiff") for c in CHANNELS])
        mask = imagecodecs.imread(root / row.mask)
        np.testing.assert_array_equal(mask, 255 * (site == 65535).any(0))


def test_faults_leave_the_other_fields_as_they_are():
    clean, images = plate_fields(replace(TINY, fault_rate=0.0), 1)
    fields, spoilt = plate_fields(TINY, 1)
    differ = (images != spoilt).any((1, 2, 3))
    np.testing.assert_array_equal(differ, fields["fault"] != "")
    assert differ.any() and (clean["fault"] == "").all()
    gone = fields["fault"].isin(["empty", "dead"])
    assert (fields["cells"] == clean["cells"].where(~gone, 0)).all()


def test_truth_joins_on_site_id_and_belongs_to_its_images(root):
    table, known = simulated.manifest(root), truth(root)
    assert known["site_id"].is_unique and set(known["site_id"]) == set(table["site_id"])
    both = table.merge(known, on="site_id", suffixes=("", "_true"))
    for column in ("plate", "well", "site", "compound", "batch"):
        assert (both[column] == both[f"{column}_true"]).all()
    traits = known[[f"trait_{t}" for t in TRAITS]]
    within = traits.groupby([known["plate"], known["well"]]).std()
    assert (within < 1e-9).all(axis=None)  # sites of a well share its biology
    fields, images = plate_fields(TINY, 3)
    rows = table.set_index("site_id").loc[fields["site_id"]]
    for k in (0, 9):
        plane = tifffile.imread(root / rows["path_RNA"].iloc[k])
        np.testing.assert_array_equal(plane, images[k, CHANNELS.index("RNA")])


# Refusals


def test_a_folder_of_another_screen_is_refused_with_what_differs(root):
    before = fingerprint(root)
    with pytest.raises(InputError, match=r"another simulated screen; they differ in seed, size\."):
        draw(root, replace(TINY, seed=5, size=32))
    assert fingerprint(root) == before


def test_a_folder_without_a_screen_is_told(tmp_path):
    with pytest.raises(InputError, match="is not a finished simulated screen"):
        simulated.manifest(tmp_path)


def test_a_full_disk_is_one_message_and_the_same_call_goes_on(tmp_path, monkeypatch, root):
    def full(path, *words, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(tiff, "write", full)  # workers are forked with it
        with pytest.raises(InputError, match="no space is left on the disk"):
            draw(tmp_path / "tiny", TINY)
    assert not list(tmp_path.rglob("*.parquet")) and not list(tmp_path.rglob("*.part"))
    assert fingerprint(draw(tmp_path / "tiny", TINY)) == fingerprint(root)


# The planted truth


def fields_of(**changes):
    """Truth and intensity statistics of a small screen, in memory."""
    options = dict(treatments=8, batches=4, plates=1, wells=3, control_wells=6, sites=3)
    config = SimulatedConfig(**(options | changes))
    plates = [plate_fields(config, k) for k in range(config.batches * config.plates)]
    images = np.concatenate([image for _, image in plates])
    scaled = np.clip(images / np.quantile(images, 0.999, (0, 2, 3), keepdims=True) * 255, 0, 255)
    return pd.concat([f for f, _ in plates], ignore_index=True), intensity_statistics(
        scaled.astype(np.uint8)
    )


def standard(x):
    return (x - x.mean(0)) / (x.std(0) + 1e-9)


def found(features, label, group):
    """k-NN of each group's rows among all other groups' rows: share of right labels."""
    shares = []
    for name in np.unique(group):
        out = group == name
        shares.append(knn_accuracy(features[~out], label[~out], features[out], label[out], k=5))
    return float(np.mean(shares))


def test_intensities_know_the_batch_and_traits_know_the_treatment():
    fields, brightness = fields_of()
    batch, treatment = fields["batch"].to_numpy(), fields["compound"].to_numpy()
    well = (fields["plate"] + fields["well"]).to_numpy()
    traits = fields[[f"trait_{t}" for t in TRAITS]].to_numpy()
    halves = pd.util.hash_array(well.astype(object)) % 2  # whole wells to either side
    assert found(standard(brightness), batch, halves) > 0.6  # chance 0.25
    treated = treatment != "DMSO"  # the positive control is as good as any
    assert found(traits[treated], treatment[treated], batch[treated]) > 0.95
    z = zscore_by_controls(brightness, batch, ~treated)
    assert found(z[treated], treatment[treated], batch[treated]) < 0.35  # chance 0.125


def test_without_the_dial_batches_cannot_be_told_apart():
    scores = {}
    for strength in (0.0, 1.0):
        fields, brightness = fields_of(batch_strength=strength, batches=3, wells=6)
        well = (fields["plate"] + fields["well"]).to_numpy()
        halves = pd.util.hash_array(well.astype(object)) % 2
        scores[strength] = found(standard(brightness), fields["batch"].to_numpy(), halves)
    assert scores[0.0] < 0.45 and scores[1.0] > 0.6  # chance 0.33


def test_treatments_have_equal_brightness_when_nuisance_is_off():
    config = SimulatedConfig(
        treatments=6, batches=1, plates=1, wells=20, control_wells=20, sites=3, positive_wells=0,
        batch_strength=0.0, field_strength=0.0,
    )  # fmt: skip
    fields, images = plate_fields(config, 0)
    signal = images.astype(float).mean((2, 3)) - 60  # background
    per_cell = pd.DataFrame(signal / fields[["cells"]].to_numpy(), columns=CHANNELS)
    groups = per_cell.groupby(fields["compound"])
    spread = groups.mean() / per_cell.mean() - 1
    error = (groups.std() / np.sqrt(groups.size().iloc[0]) / per_cell.mean()).max(axis=None)
    assert spread.abs().max(axis=None) < 0.1  # spread-out cells lose more light at the rim
    assert error < 0.03  # the test could see a difference of a tenth


def test_strengths_of_zero_leave_no_nuisance():
    config = replace(TINY, batch_strength=0.0, field_strength=0.0)
    for plate in (0, 4):
        fields, _ = plate_fields(config, plate)
        for column in ("density", "cell_size", "defocus_px"):
            assert fields[column].nunique() == 1
    fields, _ = plate_fields(TINY, 0)
    assert fields["cell_size"].nunique() == len(fields)


def test_pictures_of_an_older_drawing_are_left_and_new_ones_go_beside_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_DATA", str(tmp_path))
    folder, now = tmp_path / "simulated" / "smoke", simulated.SIZES["smoke"].drawing
    assert simulated.home("smoke") == folder
    folder.mkdir(parents=True)
    for drawing, name in ((now, "smoke"), (now - 1, f"smoke-{now}")):
        (folder / "simulated.json").write_text(json.dumps({"drawing": drawing}))
        assert simulated.home("smoke") == folder.with_name(name)
