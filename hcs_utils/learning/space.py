"""One space for molecules and images: two encoders, a projection head on each."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from hcs_utils.errors import InputError


class Space(nn.Module):
    """An image and a molecule encoder and their heads; an image's place is its projection.

    Called like an image encoder, so that `embed.embed` works with it. Projections are raw: losses
    and cosines set their length to 1, the batch-effect task takes them as they are.
    """

    def __init__(
        self,
        image: nn.Module,
        molecule: nn.Module,
        width: int = 1024,
        dropout: float | int = 0.0,
    ):
        super().__init__()
        if width < 1 or not 0 <= dropout < 1:
            raise InputError(
                f"width must be 1 or more and dropout in [0, 1), got {width} and {dropout}."
            )
        self.image, self.molecule = image, molecule
        self.image_head = head(image.num_features, width, dropout)
        self.molecule_head = head(molecule.num_features, width, dropout)
        self.channels, self.num_features = tuple(image.channels), width

    def images(self, images: Float[Tensor, "n c y x"]) -> Float[Tensor, "n w"]:
        return self.image_head(self.image(images))

    def molecules(self, molecules: Any) -> Float[Tensor, "n w"]:
        """Of what the molecule encoder takes: a batch of graphs, or fingerprints [n b]."""
        return self.molecule_head(self.molecule(molecules))

    def forward(self, images: Float[Tensor, "n c y x"]) -> Float[Tensor, "n w"]:
        return self.images(images)


def head(features: int, width: int, dropout: float | int = 0.0) -> nn.Sequential:
    """ReLU, dropout, linear, ReLU, dropout, linear: as gwatkinson/jump_models, width 1,024."""
    return nn.Sequential(
        nn.ReLU(), nn.Dropout(dropout), nn.Linear(features, width),
        nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width),
    )  # fmt: skip
