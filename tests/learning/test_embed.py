"""An embedding is a table by site_id; channels and their order must be the encoder's."""

import numpy as np
import pandas as pd
import pytest
import torch

from hcs_utils.errors import InputError
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.embed import as_table, embed, features
from hcs_utils.learning.views import Normaliser

CHANNELS = ("DNA", "ER", "Mito")


@pytest.fixture
def fields():
    """Seven fields [7 3 20 20], their names, plates and the plates' statistics."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (7, 3, 20, 20), dtype=torch.uint8)
    names = [f"site{k}" for k in range(7)]
    plate = np.array([0, 1, 0, 1, 2, 2, 0])
    return images, names, plate, Normaliser(torch.rand(3, 3) * 90, 20 + torch.rand(3, 3))


def network(seed=1):
    torch.manual_seed(seed)
    model = encoder("tiny", CHANNELS)
    with torch.no_grad():
        for _ in range(3):  # batch norms that are not the identity
            model(torch.randn(8, 3, 16, 16) * 2 + 1)
    return model


def test_features_are_those_of_the_normalised_middle(fields):
    images, names, plate, norm = fields
    model = network()
    table = embed(model, images, names, plate, norm, 16, CHANNELS)
    assert list(table.columns) == ["site_id"] + [f"z{k:03d}" for k in range(64)]
    assert table["site_id"].tolist() == names
    assert set(table.dtypes[1:]) == {np.dtype("float32")}
    model.eval()
    for k in range(7):
        x = images[k, :, 2:18, 2:18].float()
        x = (x - norm.mean[plate[k], :, None, None]) / norm.std[plate[k], :, None, None]
        with torch.no_grad():
            expected = model(x[None])[0].numpy()
        np.testing.assert_allclose(features(table)[k], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("minibatch", [1, 3, 7, 100])
def test_the_minibatch_does_not_matter(fields, minibatch):
    model = network()
    whole = embed(model, *fields[:3], fields[3], 16, CHANNELS)
    parts = embed(model, *fields[:3], fields[3], 16, CHANNELS, minibatch=minibatch)
    np.testing.assert_allclose(features(parts), features(whole), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_the_encoder_is_left_as_it_was(fields, training):
    model = network().train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    embed(model, *fields[:3], fields[3], 16, CHANNELS)
    assert model.training == training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "channels", [("DNA", "ER"), ("ER", "DNA", "Mito"), ("DNA", "ER", "mito")],
    ids=["fewer", "other order", "other name"],
)  # fmt: skip
def test_other_channels_are_refused(fields, channels):
    with pytest.raises(InputError, match="Name and order must agree") as caught:
        embed(network(), *fields[:3], fields[3], 16, channels)
    assert str(list(channels)) in str(caught.value) and str(list(CHANNELS)) in str(caught.value)


def test_features_of_a_table_are_its_z_columns_whatever_else_it_holds():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    table = as_table(values, pd.Series(["a", "b"], index=[5, 9]))
    assert table["site_id"].tolist() == ["a", "b"]
    table["zone"], table["Metadata_z"] = 1, 2
    got = features(table)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, values)
