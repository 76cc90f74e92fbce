"""Plates joined are one pass, to the byte; a plate fails alone and is whole or not there."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from hcs_utils.data import images, plates, recipe, store
from hcs_utils.data import manifest as manifests
from hcs_utils.data.plates import PAPER, Recipe, join, plan, run_plate
from hcs_utils.data.preprocess import Report, control_statistics, preprocess
from hcs_utils.data.sampling import sample_fields
from hcs_utils.errors import InputError
from tests.data.test_preprocess import fingerprint, screen


@pytest.fixture
def root(tmp_path):
    return tmp_path / "screen"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run_all(manifest, root, out, how, names=None, **options):
    plan(manifest, root, out, how, **options)
    for plate in names or sorted(set(manifest["plate"])):
        run_plate(out, plate)
    return join(out)


@pytest.mark.parametrize("scale", ["screen", "plate", "image"])
@pytest.mark.parametrize("size", [0, 10])
def test_plates_joined_are_one_pass_to_the_byte(root, out, tmp_path, scale, size):
    manifest = screen(root, plates=3, wells=7)
    (root / manifest["path_dna"][9]).write_bytes(b"")
    how = Recipe(scale=scale, size=size, low=2, high=98)
    path = run_all(manifest, root, out, how, ["p2", "p0", "p1"], pixel_size_um=0.5)
    one = tmp_path / "one.zarr"
    preprocess(
        manifest, root, one, size=size or None, scale=scale, low=2, high=98, pixel_size_um=0.5
    )
    assert fingerprint(path) == fingerprint(one)
    assert store.open_store(path).pixel_size_um == (0.5 * 24 / size if size else 0.5)
    listed = pd.read_csv(out / "failed.csv")
    assert listed["site_id"].tolist() == ["p1w2"] and "0 bytes" in listed["reason"][0]


def test_plates_across_several_shards_are_one_pass_to_the_byte(root, out, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_SHARD_SITES", 8)
    manifest = screen(root, plates=4, wells=13, size=8)
    path = run_all(manifest, root, out, Recipe())
    preprocess(manifest, root, tmp_path / "one.zarr", scale="image")
    assert fingerprint(path) == fingerprint(tmp_path / "one.zarr")
    assert len(list((path / "images" / "c").iterdir())) == 7
    everything = store.open_store(path).read(range(52))
    np.testing.assert_array_equal(store.zarr.open_array(path / "images")[:], everything)


def test_order_and_repeated_jobs_change_nothing(root, out, tmp_path):
    manifest = screen(root, plates=4)
    names = ["p0", "p1", "p2", "p3"] * 2
    random.Random(0).shuffle(names)
    how = Recipe(scale="plate", illumination="fit")
    first = run_all(manifest, root, out, how, names)
    shuffled = manifest.sample(frac=1, random_state=3)
    second = run_all(shuffled, root, tmp_path / "again", how)
    assert fingerprint(first) == fingerprint(second)
    for name in ("statistics.parquet", "failed.csv", "manifest.parquet"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    before = first.stat().st_mtime_ns
    assert run_plate(out, "p1") == Report(0, 6, [])
    assert join(out) == first and first.stat().st_mtime_ns == before


def test_a_job_reads_its_own_plate_alone(root, out):
    manifest = screen(root, plates=2)
    plan(manifest, root, out, Recipe(scale="plate"))
    for name in manifest["path_dna"][6:]:
        (root / name).unlink()
    assert run_plate(out, "p0") == Report(6, 0, [])


@pytest.mark.parametrize("form", ["png", "jxl"])
def test_a_tree_holds_the_pixels_of_the_store_under_a_manifest_of_its_own(
    root, out, tmp_path, form
):
    manifest = screen(root, plates=2)
    (root / manifest["path_er"][3]).unlink()
    path = run_all(manifest, root, out, Recipe(crop_px=16, form=form), pixel_size_um=0.5)
    table = manifests.read(path / "manifest.parquet")
    manifests.validate(table, root=path)
    assert table.attrs["pixel_size_um"] == 0.5
    got = store.open_store(run_all(manifest, root, tmp_path / "zarr", Recipe(crop_px=16)))
    assert got.shape == (11, 2, 16, 16) and got.parameters["crop_px"] == 16
    assert got.pixel_size_um is None
    assert table["site_id"].tolist() == got.site_ids.tolist()
    for row in (0, 3, 10):
        image = images.read_site(path, table.iloc[row], ("dna", "er"))
        np.testing.assert_array_equal(image, got.read([row])[0])
    here = {str(file.relative_to(path)) for file in path.rglob(f"*.{form}")}
    assert here == set(table["path_dna"]) | set(table["path_er"])
    other = pd.read_parquet(tmp_path / "zarr" / "statistics.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(out / "statistics.parquet"), other)


def test_the_papers_recipe_samples_cuts_and_scales_as_a_loop_does(root, out):
    manifest = screen(root, plates=2, wells=6)
    more = [manifest.assign(site=k, site_id=manifest["site_id"] + f"s{k}") for k in range(2, 10)]
    for k, frame in enumerate(more, 2):
        for name in ("path_dna", "path_er"):
            frame[name] = frame[name].str.replace("_", f"_{k}", n=1)
            for old, new in zip(manifest[name], frame[name], strict=True):
                (root / new).write_bytes((root / old).read_bytes())
    manifest = pd.concat([manifest, *more], ignore_index=True)
    path = run_all(manifest, root, out, replace(PAPER, crop_px=20))
    table = manifests.read(path / "manifest.parquet")
    kept = table.groupby(["role", "plate", "well"]).size().groupby("role")
    assert kept.min().to_dict() == kept.max().to_dict() == {"negcon": 3, "trt": 6}
    assert set(table["site_id"]) == set(sample_fields(manifest, 6, 3, 0)["site_id"])
    for _, row in table.iloc[::9].iterrows():
        raw = images.read_site(root, manifest.set_index("site_id").loc[row["site_id"]], ["dna"])
        cut = raw[0, 2:22, 2:22].astype(float)
        low, high = np.percentile(cut, [1, 99])
        expected = np.clip((cut - low) / (high - low), 0, 1) * 255
        found = images.read_plane(path, row["path_dna"])
        assert np.abs(found - expected).max() <= 0.51


def shaded(root, plates=2, wells=12, size=32):
    """Even fields behind a lens that darkens the right side to a half."""
    manifest = screen(root, plates=plates, wells=wells, size=size)
    light = np.linspace(1, 0.5, size)
    rng = np.random.default_rng(5)
    for name in manifest["path_dna"]:
        field = rng.normal(8000, 300, (size, size)) * light
        tifffile.imwrite(root / name, field.astype(np.uint16))
    return manifest, light


def slope(path):
    """Of the first channel's mean: left over right, in grey levels."""
    got = store.open_store(path)
    mean = got.read(range(len(got)))[:, 0].mean((0, 1))
    return mean[:8].mean() - mean[-8:].mean()


def test_illumination_fitted_to_a_plate_takes_a_planted_shading_away(root, out, tmp_path):
    manifest, _ = shaded(root)
    plain = slope(run_all(manifest, root, out, Recipe(scale="plate")))
    fitted = slope(
        run_all(manifest, root, tmp_path / "fit", Recipe(scale="plate", illumination="fit"))
    )
    assert plain > 100 and abs(fitted) < plain / 10


@pytest.mark.parametrize("one", [True, False])
def test_illumination_from_files_is_divided_out_before_the_cut(root, out, one):
    manifest, light = shaded(root)
    for plate in ("p0", "p1"):
        (root / "illum" / plate).mkdir(parents=True)
        for name, function in (("dna", light), ("er", light * 0 + 1)):
            np.save(root / f"illum/{plate}/{plate}_Illum{name}.npy", np.tile(function, (32, 1)))
    if one:
        manifest["illum"] = "illum/{plate}/{plate}_Illum{channel}.npy"
    else:
        for name in ("dna", "er"):
            manifest["illum_" + name] = [
                f"illum/{p}/{p}_Illum{name}.npy" for p in manifest["plate"]
            ]
    (root / "illum/p1/p1_Illumer.npy").unlink()
    how = Recipe(scale="screen", illumination="files", crop_px=24)
    plan(manifest, root, out, how)
    assert run_plate(out, "p0").done == 12
    with pytest.raises(InputError, match="There is no illumination function at"):
        run_plate(out, "p1")
    assert abs(slope(join(out, allow_missing=True))) < 10
    with pytest.raises(InputError, match="illumination_sha256"):
        changed = manifest.rename(columns={"illum": "illum_dna"})
        plan(changed.assign(illum_dna="a.npy", illum_er="b.npy"), root, out, how)


def test_illumination_files_stay_within_the_root(root, out):
    manifest = screen(root, plates=1)
    np.save(root.parent / "outside.npy", np.ones((24, 24)))
    with pytest.raises(InputError, match=r"outside.npy leaves the screen's folder"):
        plan(manifest.assign(illum="../outside.npy"), root, out, Recipe(illumination="files"))
    with pytest.raises(InputError, match="illum_dna, illum_er"):
        plan(manifest, root, out.with_name("b"), Recipe(illumination="files"))


KILLED = """
import os, sys
from hcs_utils.data import plates, store
real = store.write_shard
def write(*a):
    real(*a)
    print("written", flush=True)
    sys.stdin.read()
store.write_shard = write
plates.run_plate(sys.argv[1], "p1")
"""


def test_kill_9_leaves_nothing_under_the_final_name_and_the_same_job_completes(root, out, tmp_path):
    manifest = screen(root, plates=2)
    plan(manifest, root, out, Recipe())
    run_plate(out, "p0")
    before = fingerprint(out)
    job = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert job.stdout.readline() == b"written\n"
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    job.stdin.close(), job.stdout.close()
    assert sorted(os.listdir(out / "plates")) == ["p0.json", "p0.zarr", "p1.part"]
    with pytest.raises(InputError, match=r"1 of 2 plates .*\n    p1: has not been run"):
        join(out)
    assert run_plate(out, "p1").done == 6
    assert before.items() <= fingerprint(out).items()
    preprocess(manifest, root, tmp_path / "one.zarr", scale="image")
    assert fingerprint(join(out, tidy=True)) == fingerprint(tmp_path / "one.zarr")
    assert sorted(os.listdir(out / "plates")) == ["p0.json", "p1.json"]
    assert join(out) == out / "images.zarr"


def test_a_killed_join_goes_on_and_gives_the_same_bytes(root, out, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_SHARD_SITES", 4)
    manifest = screen(root, plates=2, wells=9)
    plan(manifest, root, out, Recipe())
    for plate in ("p0", "p1"):
        run_plate(out, plate)
    real, made = store._shard, []

    def dies(chunks, size):
        made.append(len(chunks))
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(chunks, size)

    monkeypatch.setattr(store, "_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        join(out)
    assert not (out / "images.zarr").exists()
    path = join(out)
    assert made == [4, 4, 4, 4, 4, 2]  # the first two shards were not made again
    preprocess(manifest, root, tmp_path / "one.zarr", scale="image")
    assert fingerprint(path) == fingerprint(tmp_path / "one.zarr")


def test_a_plate_that_cannot_be_read_fails_alone(root, out):
    manifest = screen(root, plates=3)
    whole = {name: (root / name).read_bytes() for name in manifest["path_dna"][:6]}
    for name in whole:
        (root / name).write_bytes(b"")
    plan(manifest, root, out, Recipe(scale="plate", illumination="fit"))
    with pytest.raises(InputError, match=r"None of 6 sites of plate p0") as caught:
        run_plate(out, "p0")
    assert str(caught.value).count("0 bytes") == 6
    assert [run_plate(out, plate).done for plate in ("p1", "p2")] == [6, 6]
    with pytest.raises(InputError, match=r"1 of 3 plates are missing.*\n    p0: .*0 bytes"):
        join(out)
    assert run_plate(out, "p0", allow_missing=True).done == 0
    got = store.open_store(join(out, allow_missing=True))
    assert len(got) == 12 and len(got.failed) == 6
    assert pd.read_csv(out / "failed.csv")["plate"].tolist() == ["p0"] * 6
    report = pd.read_csv(out / "report.csv")
    assert report["fields"].tolist() == [0, 6, 6] and report["failed"].tolist() == [6, 0, 0]
    assert report["bytes_out"].tolist()[0] == 0 and (report["bytes_out"][1:] > 0).all()
    sizes = [
        (root / p).stat().st_size for p in [*manifest["path_dna"][6:12], *manifest["path_er"][6:12]]
    ]
    assert report["bytes_in"][1] == sum(sizes)
    for name, content in whole.items():
        (root / name).write_bytes(content)
    assert run_plate(out, "p0") == Report(6, 0, [])
    assert len(store.open_store(join(out))) == 18


def test_fields_of_another_size_fail_and_a_tree_may_hold_plates_of_two_sizes(root, out, tmp_path):
    manifest = screen(root, plates=3)
    for k in [0, *range(6, 12)]:
        for name in ("path_dna", "path_er"):
            tifffile.imwrite(root / manifest[name][k], np.full((9, 9), k, np.uint16))
    plan(manifest, root, out, Recipe())
    found = run_plate(out, "p0")
    assert found.failed == [("p0w0", "is 9×9 pixels, the others are 24×24. Give all one size.")]
    before = fingerprint(out)
    assert run_plate(out, "p0") == Report(0, 5, found.failed) and fingerprint(out) == before
    with pytest.raises(InputError, match="None of 6 sites of plate p1"):
        run_plate(out, "p1")
    tree = tmp_path / "tree"
    plan(manifest, root, tree, Recipe(form="png"))
    assert [run_plate(tree, plate).done for plate in ("p0", "p1", "p2")] == [5, 6, 6]
    table = manifests.read(join(tree) / "manifest.parquet")
    assert images.read_plane(tree / "images", table["path_dna"][6]).shape == (9, 9)


NAMES = [
    "../up",
    "a/b",
    "P1",
    "p1",
    ".",
    "..",
    "",
    " ",
    "plate 1",
    "plate-1",
    "β",
    "x" * 300,
    "CON",
]


def test_odd_plate_and_site_names_stay_inside_and_apart(root, out):
    names = [name for name in NAMES if name.strip()]
    manifest = screen(root, plates=len(names), wells=1)
    manifest["plate"] = names
    manifest["site_id"] = [f"../{name}:1" for name in names]
    before = {path for path in out.parent.rglob("*") if out not in path.parents}
    path = run_all(manifest, root, out, Recipe(form="png"), names)
    table = manifests.validate(manifests.read(path / "manifest.parquet"), root=path)
    assert set(table["plate"]) == set(names)
    assert len(list(path.rglob("*.png"))) == 2 * len(names)
    after = {path for path in out.parent.rglob("*") if out not in path.parents}
    assert after - before == {out}
    with pytest.raises(InputError, match=r"no plate 'plate 2' \(nearest: plate 1"):
        run_plate(out, "plate 2")


@given(st.lists(st.text(max_size=12) | st.sampled_from(NAMES), unique=True))
def test_safe_names_are_files_names_and_differ_in_any_case(names):
    safe = recipe.safe_names(names)
    assert list(safe) == names
    assert len({short.casefold() for short in safe.values()}) == len(names)
    for name, short in safe.items():
        assert 0 < len(short) <= 145 and set(short) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
        )
        assert short == recipe.safe_names(reversed(names))[name]


def test_another_request_into_the_same_folder_is_refused_by_what_differs(root, out, tmp_path):
    manifest = screen(root)
    path = plan(manifest, root, out, Recipe(size=8), pixel_size_um=0.5)
    before = path.stat().st_mtime_ns
    assert plan(manifest.iloc[::-1], root, out, Recipe(size=8), pixel_size_um=0.5) == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"- size: 8 there, 12 asked for\n- low: 1.0 there, 2.0"):
        plan(manifest, root, out, Recipe(size=12, low=2), pixel_size_um=0.5)
    with pytest.raises(InputError, match="- manifest_sha256"):
        plan(manifest.iloc[1:], root, out, Recipe(size=8), pixel_size_um=0.5)
    with pytest.raises(InputError, match=r"- pixel_size_um: 0\.5 there, None"):
        plan(manifest, root, out, Recipe(size=8))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "manifest.parquet").write_text("mine")
    with pytest.raises(InputError, match=r"holds manifest.parquet of something else"):
        plan(manifest, root, tmp_path / "full", Recipe())
    with pytest.raises(InputError, match="There is no plan"):
        run_plate(tmp_path / "full", "p0")


def test_a_recipe_that_cannot_be_is_refused_with_all_its_faults():
    with pytest.raises(InputError) as caught:
        Recipe(scale="plates", form="tiff", low=99.0, size=-1, distance=2)
    for word in (
        "scale is 'plates'",
        "form is 'tiff'",
        "low < high",
        "size is -1",
        "distance is 2",
    ):
        assert word in str(caught.value)
    with pytest.raises(InputError, match="scale 'screen' is taken before"):
        Recipe(scale="screen", illumination="fit")


def test_statistics_are_those_of_the_controls_or_of_all_and_say_so(root, out):
    manifest = screen(root)
    manifest.loc[manifest["plate"] == "p1", "role"] = "trt"
    path = run_all(manifest, root, out, Recipe(scale="screen"))
    table = pd.read_parquet(out / "statistics.parquet")
    assert table["over"].tolist() == ["controls", "all"] and table["fields"].tolist() == [3, 6]
    got = store.open_store(path)
    for plate, over in (("p0", "controls"), ("p1", "all")):
        expected = control_statistics(got, manifest[manifest["plate"] == plate], over=over)
        for name in expected:
            assert table.loc[plate, name] == pytest.approx(expected.loc[plate, name], rel=1e-12)
    pixels = got.read(got.rows([f"p0w{k}" for k in range(3)]))[:, 1]
    assert table.loc["p0", "std_er"] == pytest.approx(pixels.std())


def test_two_jobs_of_one_plate_wait_for_each_other(root, out):
    plan(screen(root, wells=40), root, out, Recipe())
    code = "import sys; from hcs_utils.data import plates; plates.run_plate(sys.argv[1], 'p0')"
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(out)]) for _ in range(2)]
    assert [job.wait(120) for job in jobs] == [0, 0]
    assert sorted(os.listdir(out / "plates")) == ["p0.json", "p0.zarr"]


def test_a_job_of_one_among_thousands_of_plates_reads_its_own_part_of_the_manifest(root, out):
    manifest = screen(root, plates=1, wells=2)
    many = pd.concat([manifest] * 2000, ignore_index=True)
    plate = np.repeat([f"plate {k}" for k in range(2000)], 2)
    many = many.assign(plate=plate, site_id=[f"s{k}" for k in range(4000)])
    many["path_dna"] = [f"copies/{k}.tif" for k in range(4000)]
    (root / "copies").mkdir()
    for k in range(4000):
        os.link(root / manifest["path_dna"][0], root / f"copies/{k}.tif")
    plan(many, root, out, Recipe())
    assert parquet.ParquetFile(out / "manifest.parquet").num_row_groups == 2000
    assert run_plate(out, "plate 1234").done == 2
    assert plates.rows_of(out, 7)["plate"].nunique() == 1
