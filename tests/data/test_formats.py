"""Files hold every pixel that was written, and only where they belong."""

import errno

import imagecodecs
import numpy as np
import pytest
import skimage.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from hcs_utils.data import formats, images
from hcs_utils.errors import InputError

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
FIELD = np.random.default_rng(0).integers(0, 256, (2, 30, 41)).astype(np.uint8)
DECODE = {"png": imagecodecs.png_decode, "jxl": imagecodecs.jpegxl_decode}


@pytest.mark.parametrize("form", formats.FORMS)
@given(plane=arrays(np.uint8, SHAPES))
def test_lossless_files_give_back_every_pixel(form, plane):
    np.testing.assert_array_equal(DECODE[form](formats.encode(plane, form)), plane)


@pytest.mark.parametrize("view", [FIELD[0, ::2, ::3], FIELD[0].T, FIELD[0, 3:20, 5:30]])
@pytest.mark.parametrize("form", formats.FORMS)
def test_views_are_encoded_as_they_look(form, view):
    np.testing.assert_array_equal(DECODE[form](formats.encode(view, form)), view)


def test_pillow_and_scikit_image_read_our_png(tmp_path):
    (tmp_path / "x.png").write_bytes(formats.encode(FIELD[0], "png"))
    with Image.open(tmp_path / "x.png") as opened:
        assert opened.mode == "L"
        np.testing.assert_array_equal(np.asarray(opened), FIELD[0])
    np.testing.assert_array_equal(skimage.io.imread(tmp_path / "x.png"), FIELD[0])


def test_a_larger_distance_makes_a_smaller_file_that_is_less_exact():
    y, x = np.mgrid[:96, :96] / 9
    noise = np.random.default_rng(1).normal(0, 6, (96, 96))
    plane = np.clip(110 + 60 * np.sin(x) * np.cos(y) + noise, 0, 255).astype(np.uint8)
    coded = [formats.encode(plane, "jxl", distance) for distance in (0, 0.5, 2, 8)]
    error = [np.abs(imagecodecs.jpegxl_decode(c).astype(int) - plane).mean() for c in coded]
    assert sorted(map(len, coded), reverse=True) == list(map(len, coded))
    assert error[0] == 0 and error == sorted(error) and 0 < error[1] < 4


def test_noisy_fields_make_png_files_no_larger_than_pillows(tmp_path):
    y, x = np.mgrid[:256, :256] / 20
    light = 90 + 70 * np.sin(x) * np.cos(y)
    plane = np.clip(np.random.default_rng(2).normal(light, 8), 0, 255).astype(np.uint8)
    Image.fromarray(plane).save(tmp_path / "pillow.png")
    ours = len(formats.encode(plane, "png"))
    assert ours <= 1.02 * (tmp_path / "pillow.png").stat().st_size


@pytest.mark.parametrize("form", formats.FORMS)
def test_a_site_is_a_file_a_channel_and_is_read_back(tmp_path, form):
    names = formats.write_site(tmp_path / "a" / "b", "p1__A01__3", FIELD, ("DNA", "ER"), form)
    assert names == {c: f"p1__A01__3__{c}.{form}" for c in ("DNA", "ER")}
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == sorted(names.values())
    row = {f"path_{channel}": f"a/b/{name}" for channel, name in names.items()}
    np.testing.assert_array_equal(images.read_site(tmp_path, row, ("DNA", "ER")), FIELD)
    formats.write_site(tmp_path / "a" / "b", "p1__A01__3", 255 - FIELD, ("DNA", "ER"), form)
    np.testing.assert_array_equal(images.read_site(tmp_path, row, ("DNA", "ER")), 255 - FIELD)


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    formats.write_site(tmp_path, "s", FIELD[:1], ("DNA",), "png")
    before = (tmp_path / "s__DNA.png").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(formats.os, "replace", full)
    with pytest.raises(InputError, match=r"s__DNA\.png: no space is left"):
        formats.write_site(tmp_path, "s", 255 - FIELD[:1], ("DNA",), "png")
    assert [path.name for path in tmp_path.iterdir()] == ["s__DNA.png"]
    assert (tmp_path / "s__DNA.png").read_bytes() == before


@pytest.mark.parametrize("bad", ["../x", "a/b", "", ".x", "a\\b", "c:x", "a\0b"])
def test_no_name_leads_out_of_the_folder(tmp_path, bad):
    folder = tmp_path / "in"
    with pytest.raises(InputError, match="cannot be names of files"):
        formats.write_site(folder, bad, FIELD[:1], ("DNA",), "png")
    row = {"source": "s", "batch": "b", "plate": bad, "well": "A01", "site": 1}
    with pytest.raises(InputError, match=r"plate .* cannot name"):
        formats.jump_place(row)
    for channel in ("a/../../b", ""):
        with pytest.raises(InputError, match="cannot be names of files"):
            formats.write_site(folder, "s", FIELD[:1], (channel,), "png")
    assert not folder.exists()


def test_sites_lie_where_jumps_do():
    row = {"source": "source_4", "batch": "B1", "plate": "BR7", "well": "A01", "site": 3}
    assert formats.jump_place(row) == ("source_4/B1/BR7", "source_4__BR7__A01__3")


def test_what_cannot_be_encoded_is_refused_with_what_to_do(tmp_path, monkeypatch):
    for plane in (FIELD, FIELD[0].astype(np.uint16), FIELD[0, :0]):
        with pytest.raises(InputError, match="y by x in uint8"):
            formats.encode(plane, "png")
    with pytest.raises(InputError, match="'jpg'; choose one of 'png', 'jxl'"):
        formats.encode(FIELD[0], "jpg")
    with pytest.raises(InputError, match="PNG is lossless"):
        formats.encode(FIELD[0], "png", 1)
    for distance in (-1, 26, float("nan")):
        with pytest.raises(InputError, match="0 \\(lossless\\) to 25"):
            formats.encode(FIELD[0], "jxl", distance)
    with pytest.raises(InputError, match="2 planes do not fit 1 channels"):
        formats.write_site(tmp_path, "s", FIELD, ("DNA",), "png")
    monkeypatch.setattr(imagecodecs.JPEGXL, "available", False)
    with pytest.raises(InputError, match="built without JPEG-XL"):
        formats.encode(FIELD[0], "jxl")
