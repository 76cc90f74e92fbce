"""Images are read exactly, or refused by name; rescaling and resizing keep what they promise."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hcs_utils.data import images
from hcs_utils.errors import InputError

STACK = np.random.default_rng(0).integers(0, 60_000, (5, 24, 32)).astype(np.uint16)
RGB = np.random.default_rng(1).integers(0, 255, (24, 32, 3)).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "screen"
    (folder / "im").mkdir(parents=True)
    tifffile.imwrite(folder / "im" / "one.tif", STACK[0])
    tifffile.imwrite(folder / "im" / "stack.tiff", STACK)
    tifffile.imwrite(folder / "im" / "fiji.tif", STACK, imagej=True)
    tifffile.imwrite(folder / "im" / "j2k.tif", STACK[0], compression="jpeg2000")
    tifffile.imwrite(folder / "im" / "lzw.tif", STACK[0], compression="lzw", tile=(16, 16))
    (folder / "im" / "one.png").write_bytes(imagecodecs.png_encode(STACK[0]))
    (folder / "im" / "rgb.png").write_bytes(imagecodecs.png_encode(RGB))
    (folder / "im" / "one.jpg").write_bytes(imagecodecs.jpeg_encode(RGB[..., 0].copy(), level=100))
    (folder / "im" / "one.jxl").write_bytes(
        imagecodecs.jpegxl_encode(STACK[0], lossless=True, effort=1)
    )
    (folder / "im" / "boxed.jxl").write_bytes(
        imagecodecs.jpegxl_encode(RGB[..., 0].copy(), lossless=True, effort=1, usecontainer=True)
    )
    (folder / "im" / "tiff_inside.png").write_bytes((folder / "im" / "one.tif").read_bytes())
    np.save(folder / "im" / "crop.npy", RGB.astype(np.uint16))
    np.save(folder / "im" / "mask.npy", RGB[..., 0] > 100)
    return folder


def refusal(root, relpath):
    with pytest.raises(InputError) as caught:
        images.read_plane(root, relpath)
    assert relpath.split("#")[0] in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("relpath", "expected"),
    [
        ("im/one.tif", STACK[0]),
        ("im/one.tif#0", STACK[0]),
        ("im/j2k.tif", STACK[0]),
        ("im/lzw.tif", STACK[0]),
        ("im/stack.tiff#4", STACK[4]),
        ("im/fiji.tif#3", STACK[3]),
        ("im/one.png", STACK[0]),
        ("im/rgb.png#2", RGB[..., 2]),
        ("im/crop.npy#1", RGB[..., 1]),
        ("im/mask.npy", np.where(RGB[..., 0] > 100, 255, 0)),
        ("im/one.jxl", STACK[0]),
        ("im/boxed.jxl", RGB[..., 0]),
        ("im/tiff_inside.png", STACK[0]),
    ],
)
def test_every_format_gives_back_the_pixels_written(root, relpath, expected):
    plane = images.read_plane(root, relpath)
    np.testing.assert_array_equal(plane, expected)
    assert plane.dtype in (np.uint8, np.uint16)


def test_a_jpeg_is_close(root):
    plane = images.read_plane(root, "im/one.jpg")
    assert plane.dtype == np.uint8
    assert np.abs(plane.astype(int) - RGB[..., 0]).mean() < 3


@pytest.mark.parametrize(
    "name",
    ["one.tif", "lzw.tif", "one.png", "one.jpg", "crop.npy", "j2k.tif", "one.jxl", "boxed.jxl"],
)
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9])
def test_a_truncated_file_is_refused_by_name(root, name, part):
    path = root / "im" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    message = refusal(root, f"im/{name}")
    assert (
        "0 bytes" in message if part == 0 else "Copy it again" in message or "is no TIFF" in message
    )


def test_what_is_no_plane_is_refused_with_what_to_do(root):
    np.save(root / "im" / "float.npy", np.zeros((4, 5)))
    np.save(root / "im" / "four.npy", np.zeros((5, 6, 7, 8), np.uint8))
    np.save(root / "im" / "line.npy", np.zeros(5, np.uint8))
    np.save(root / "im" / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (root / "im" / "text.tif").write_text("hello")
    assert "float64" in refusal(root, "im/float.npy")
    assert "(5, 6, 7, 8)" in refusal(root, "im/four.npy")
    assert "(5,)" in refusal(root, "im/line.npy")
    assert "allow_pickle" in refusal(root, "im/pickle.npy")
    assert "no TIFF, PNG" in refusal(root, "im/text.tif")
    assert "as in '#0'" in refusal(root, "im/rgb.png")
    assert "#0 to #2" in refusal(root, "im/rgb.png#3")
    assert "#0 only" in refusal(root, "im/one.tif#1")
    assert "No such file" in refusal(root, "im/none.tif")
    assert "directory" in refusal(root, "im")


def test_jpeg_xl_without_its_decoder_is_refused_with_what_to_do(root, monkeypatch):
    monkeypatch.setattr(imagecodecs.JPEGXL, "available", False)
    assert "imagecodecs cannot read" in refusal(root, "im/one.jxl")


def test_nothing_outside_the_root_is_read(root):
    tifffile.imwrite(root.parent / "secret.tif", STACK[0])
    (root / "link.tif").symlink_to(root.parent / "secret.tif")
    for relpath in ("../secret.tif", "link.tif", str(root.parent / "secret.tif")):
        assert "leaves the screen's folder" in refusal(root, relpath)


def test_a_site_is_its_channels_in_the_order_asked_for(root):
    row = {"path_a": "im/stack.tiff#1", "path_b": "im/one.png", "path_c": "im/rgb.png#0"}
    got = images.read_site(root, row, ("c", "a", "b"))
    np.testing.assert_array_equal(got, [RGB[..., 0], STACK[1], STACK[0]])
    np.save(root / "im" / "small.npy", np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=r"small\.npy is 8×8 .* 24×32"):
        images.read_site(root, row | {"path_b": "im/small.npy"}, ("a", "b"))


def test_to_uint8_puts_the_percentiles_at_the_ends():
    image = np.arange(10_001, dtype=np.uint16).reshape(1, -1)
    got = images.to_uint8(image, 1, 99)
    assert got[0, 100] == 0 and got[0, 9900] == 255 and got[0, 5000] in (127, 128)
    assert (np.diff(got[0].astype(int)) >= 0).all()


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
ENDS = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=2, max_size=2).map(sorted)


@given(st.sampled_from([np.uint8, np.uint16]).flatmap(lambda t: arrays(t, SHAPES)), ENDS)
def test_percentiles_are_those_of_numpy(image, ends):
    expected = np.percentile(image, ends, axis=(1, 2), method="linear")
    np.testing.assert_allclose(images.percentiles(image, *ends), expected, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(images.percentiles(image[0], *ends), expected[:, :1], rtol=1e-12)


def test_percentiles_of_large_views_and_of_resized_planes_are_those_of_numpy():
    image = np.random.default_rng(5).gamma(2, 700, (2, 301, 290)).astype(np.uint16)
    for part in (image[:, 3:-7, 11:], image[:, ::2].astype(np.float32) / 3):
        got = images.percentiles(part, 1, 99.5)
        np.testing.assert_allclose(got, np.percentile(part, [1, 99.5], axis=(1, 2)), rtol=1e-6)
    for low, high in ((-1, 99), (60, 40), (1, 101)):
        with pytest.raises(InputError, match="0 ≤ low ≤ high ≤ 100"):
            images.percentiles(image, low, high)


def test_to_uint8_takes_the_percentiles_of_each_channel():
    got = images.to_uint8(STACK * np.arange(1, 6, dtype=np.uint16)[:, None, None] // 5)
    for plane, k in zip(got, range(1, 6), strict=True):
        np.testing.assert_array_equal(plane, images.to_uint8(STACK[k - 1] * np.uint16(k) // 5))


@pytest.mark.parametrize(("low", "high"), [(0, 65_535), (100, 4_000), (59_999, 60_000)])
def test_rescale_is_the_formula_at_every_grey_level(low, high):
    values = np.arange(2**16, dtype=np.uint16)[None]
    expected = np.clip((values.astype(float) - low) / (high - low) * 255, 0, 255)
    assert np.abs(images.rescale(values, low, high) - expected).max() <= 0.501


def test_rescale_without_contrast_does_not_divide_by_zero():
    assert (images.rescale(np.full((3, 3), 7, np.uint16), 7, 7) == 0).all()
    assert (images.to_uint8(np.zeros((3, 3), np.uint16)) == 0).all()


def test_rescale_takes_one_pair_for_each_channel():
    got = images.rescale(STACK, np.zeros((5, 1, 1)), np.full((5, 1, 1), 60_000))
    np.testing.assert_array_equal(got[2], images.rescale(STACK[2], 0, 60_000))


@pytest.mark.parametrize("side", [255, 257])  # below and above what goes plane after plane
def test_rescale_is_the_same_for_small_and_large_images(side):
    image = np.random.default_rng(4).integers(0, 3_000, (3, side, side)).astype(np.uint16)
    low, high = np.array([[100, 300, 5], [2_000, 301, 2_999]])[..., None, None]
    planes = [images.rescale(x, *ends) for x, *ends in zip(image, low, high, strict=True)]
    np.testing.assert_array_equal(images.rescale(image, low, high), planes)
    np.testing.assert_array_equal(images.rescale(image, 9, 99)[2], images.rescale(image[2], 9, 99))


def test_center_crop_keeps_the_middle():
    image = np.arange(7 * 9).reshape(7, 9)
    np.testing.assert_array_equal(images.center_crop(image, 3), image[2:5, 3:6])
    assert images.center_crop(STACK, 24).shape == (5, 24, 24)
    with pytest.raises(InputError, match="10×10 pixels from an image of 7×9"):
        images.center_crop(image, 10)


@pytest.mark.parametrize(("side", "size"), [(12, 4), (12, 5), (7, 7), (9, 4), (4, 10)])
def test_resize_takes_the_mean_of_each_area(side, size):
    image = np.random.default_rng(2).uniform(0, 9, (2, side, side)).astype(np.float32)
    fine = image.repeat(size, 1).repeat(size, 2)  # oracle: blocks of the common refinement
    expected = fine.reshape(2, size, side, size, side).mean((2, 4))
    np.testing.assert_allclose(images.resize(image, size), expected, rtol=1e-5)
