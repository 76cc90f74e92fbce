"""A space: two encoders, two heads, one width; called like an image encoder."""

import numpy as np
import pytest
import torch

from hcs_utils.errors import InputError
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.embed import embed, features
from hcs_utils.learning.space import Space, head
from hcs_utils.learning.views import Normaliser
from tests.two_processes_crossmodal import Net


def test_both_kinds_come_out_in_one_width():
    torch.manual_seed(0)
    space = Space(encoder("tiny", ("a", "b")), Net(4), width=7)
    assert space.images(torch.randn(3, 2, 32, 32)).shape == (3, 7)
    assert space.molecules(torch.randn(5, 4)).shape == (5, 7)
    assert (space.num_features, space.channels) == (7, ("a", "b"))
    assert Space(Net(2), Net(4)).num_features == 1024


def test_heads_are_those_of_the_released_code():
    names = [type(layer).__name__ for layer in head(6, 9, 0.2)]
    assert names == ["ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert head(6, 9, 0.2)[1].p == 0.2
    x = torch.randn(4, 6)
    made = head(6, 9).eval()
    by_hand = made[5](made[2](x.relu()).relu())
    torch.testing.assert_close(made(x), by_hand)


def test_it_embeds_as_an_image_encoder_does():
    """What comes out is the projection, raw."""
    torch.manual_seed(0)
    space = Space(Net(2), Net(4), width=5)
    images = torch.randint(255, (6, 2, 8, 8), dtype=torch.uint8)
    norm = Normaliser(torch.zeros(1, 2), torch.ones(1, 2))
    table = embed(space, images, [f"s{i}" for i in range(6)], np.zeros(6, int), norm, 8, ("a", "b"))
    torch.testing.assert_close(
        torch.tensor(features(table).tolist()), space.eval().images(images.float()).detach()
    )


def test_the_encoders_of_the_paper_make_one_space():
    """timm's ResNet34 for five channels and PNA, width 1,024; a step moves every weight of both."""
    from hcs_utils.learning.methods.emm import emm_loss
    from hcs_utils.learning.molecule_encoders import molecule_encoder
    from hcs_utils.learning.molecules import Graphs

    torch.manual_seed(0)
    channels = ("DNA", "ER", "RNA", "AGP", "Mito")
    graphs = Graphs.build(["CCO", "c1ccccc1O", "CC(=O)N", "[Na+].[Cl-]"], workers=1)
    pna = molecule_encoder("pna", degrees=graphs.degrees(torch.arange(4).numpy()))
    space = Space(encoder("resnet34", channels), pna).train()
    assert (space.channels, space.num_features) == (channels, 1024)
    assert space.image.conv1.weight.shape[1] == 5 and space.image.num_features == 512
    molecules = space.molecules(graphs[torch.arange(4)])
    images = space.images(torch.randn(8, 5, 32, 32)).view(4, 2, -1)
    emm_loss(molecules, images, 0.1).backward()
    still = [name for name, weight in space.named_parameters() if weight.grad is None]
    assert still == []


@pytest.mark.parametrize("wrong", [{"width": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_sizes_that_make_no_space_are_refused(wrong):
    with pytest.raises(InputError, match="width"):
        Space(Net(2), Net(4), **wrong)
