"""Networks on molecules: PNA and GIN on graphs, and layers on fingerprints."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.nn import GINEConv, PNAConv, global_max_pool, global_mean_pool
from torch_geometric.utils import scatter

from hcs_utils.data.molecule_graphs import ATOM_SIZES, BOND_SIZES
from hcs_utils.errors import InputError

SIZES = {"pna": (200, 7), "gin": (200, 5), "pna_small": (64, 3), "gin_small": (64, 3)}
AGGREGATORS = ["mean", "max", "min", "std"]
SCALERS = ["identity", "amplification", "attenuation"]


def molecule_encoder(
    name: str,
    degrees: Tensor | None = None,
    hidden: int | None = None,
    depth: int | None = None,
    form: str = "paper",
    bits: int = 1024,
) -> nn.Module:
    """ "pna", "gin", their small forms for a CPU, or "ecfp"; `num_features` is its width.

    PNA needs `degrees`, the histogram of `Graphs.degrees` over the training molecules, for its
    mean log degree δ; form "released" has δ = 1 instead, as the authors' code.
    """
    if form not in ("paper", "released"):
        raise InputError(f"form must be 'paper' or 'released', got {form!r}.")
    if name == "ecfp":
        return Layers(bits, hidden or 512)
    if name not in SIZES:
        raise InputError(f"No molecule encoder {name!r}; there are ecfp, {', '.join(SIZES)}.")
    width, count = hidden or SIZES[name][0], depth or SIZES[name][1]
    if name.startswith("gin"):
        return GraphNetwork([_gin(width) for _ in range(count)], width)
    if degrees is None:
        raise InputError("PNA needs the degrees of the training molecules: Graphs.degrees(rows).")
    return GraphNetwork([_pna(width, degrees, form) for _ in range(count)], width)


class Layers(nn.Module):
    """Two layers on bits [n b], as CLOOME reads fingerprints (with fewer)."""

    def __init__(self, bits: int, hidden: int):
        super().__init__()
        self.num_features = hidden
        self.layers = nn.Sequential(nn.Linear(bits, hidden), nn.ReLU(), nn.Linear(hidden, hidden))

    def forward(self, molecules: Float[Tensor, "n b"]) -> Float[Tensor, "n d"]:
        return self.layers(molecules)


class GraphNetwork(nn.Module):
    """Embedded atoms, layers that pass messages along bonds, then min, max and mean over atoms."""

    def __init__(self, layers: list[nn.Module], width: int):
        super().__init__()
        self.num_features = width
        self.atoms, self.bonds = Embedded(ATOM_SIZES, width), Embedded(BOND_SIZES, width)
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in layers)
        self.readout = nn.Sequential(
            nn.Linear(3 * width, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Linear(width, width)
        )

    def forward(self, molecules) -> Float[Tensor, "n d"]:
        h, bonds = self.atoms(molecules.x), self.bonds(molecules.edge_attr)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = h + norm(layer(h, molecules.edge_index, bonds).relu())
        n, of = molecules.num_graphs, molecules.batch
        lowest = scatter(h, of, dim=0, dim_size=n, reduce="min")
        pooled = [lowest, global_max_pool(h, of, n), global_mean_pool(h, of, n)]
        return self.readout(torch.cat(pooled, 1))


class Embedded(nn.Module):
    """The sum of an embedding for each column of small integers."""

    def __init__(self, sizes: tuple[int, ...], width: int):
        super().__init__()
        first = torch.tensor((0, *sizes[:-1])).cumsum(0)
        self.register_buffer("first", first, persistent=False)
        self.table = nn.EmbeddingBag(sum(sizes), width, mode="sum")
        nn.init.xavier_uniform_(self.table.weight)

    def forward(self, columns: Tensor) -> Tensor:
        return self.table(columns + self.first)


def _gin(width: int) -> nn.Module:
    layers = nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Linear(width, width)
    )
    return GINEConv(layers, train_eps=True)


def _pna(width: int, degrees: Tensor, form: str) -> nn.Module:
    layer = PNAConv(
        width, width, AGGREGATORS, SCALERS, deg=degrees, edge_dim=width, pre_layers=2,
    )  # fmt: skip
    if form == "released":
        layer.aggr_module.avg_deg_log.fill_(1.0)
    return layer
