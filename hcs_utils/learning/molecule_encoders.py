"""Networks on molecules: PNA and GIN on graphs, and layers on fingerprints."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import GINEConv
from torch_geometric.utils import degree

from hcs_utils.data.molecule_graphs import ATOM_SIZES, BOND_SIZES
from hcs_utils.errors import InputError

SIZES = {"pna": (200, 7), "gin": (200, 5), "pna_small": (32, 3), "gin_small": (64, 3)}
FEATURES = {"pna": 256}  # that come out; of the others as many as they are wide
AGGREGATES = ("mean", "amax", "amin", "sd")
_EPS = 1e-5  # under the root of the sd


def molecule_encoder(
    name: str,
    degrees: Tensor | None = None,
    hidden: int | None = None,
    depth: int | None = None,
    form: str = "paper",
    bits: int = 1024,
) -> nn.Module:
    """ "pna", "gin", their small forms for a CPU, or "ecfp"; `num_features` is its width.

    "pna" is that of gwatkinson/jump_models: width 200, 7 layers, 256 features. It needs `degrees`,
    the histogram of `Graphs.degrees` over the training molecules, for its mean log degree δ. Form
    "released" has δ = 1 instead, batch norms that keep a twentieth of what they knew at each step,
    and Xavier's first weights divided by the inputs of a layer, as the authors' code. Their PNA
    started from weights in a private file; ours starts at random.
    """
    if form not in ("paper", "released"):
        raise InputError(f"form must be 'paper' or 'released', got {form!r}.")
    if name == "ecfp":
        return Layers(bits, hidden or 512)
    if name not in SIZES:
        raise InputError(f"No molecule encoder {name!r}; there are ecfp, {', '.join(SIZES)}.")
    width, count = hidden or SIZES[name][0], depth or SIZES[name][1]
    features = FEATURES.get(name, width)
    if name.startswith("gin"):
        return GraphNetwork([_gin(width) for _ in range(count)], width, features)
    if form == "paper":
        scale = mean_log_degree(degrees)
        return GraphNetwork([PNALayer(width, scale) for _ in range(count)], width, features)
    network = GraphNetwork([PNALayer(width, 1.0) for _ in range(count)], width, features)
    return network.apply(_released)


def mean_log_degree(degrees: Int[Tensor, " k"] | None) -> float:
    r"""PNA's :math:`\delta`, the mean of :math:`\log(d + 1)` over atoms of the training molecules.

    Source: Corso et al. (2020), equation 5.
    """
    if degrees is None:
        raise InputError("PNA needs the degrees of the training molecules: Graphs.degrees(rows).")
    if not degrees[1:].sum() > 0:
        raise InputError(
            "No training molecule has a bond, so PNA has no degree to scale by; take more "
            "molecules, or form='released'."
        )
    logs = torch.arange(1, len(degrees) + 1, dtype=torch.float64).log()
    return float(logs @ degrees.double().cpu() / degrees.sum())


class Layers(nn.Module):
    """Two layers on bits [n b], as CLOOME reads fingerprints (with fewer)."""

    def __init__(self, bits: int, hidden: int):
        super().__init__()
        self.num_features = hidden
        self.layers = nn.Sequential(nn.Linear(bits, hidden), nn.ReLU(), nn.Linear(hidden, hidden))

    def forward(self, molecules: Float[Tensor, "n b"]) -> Float[Tensor, "n d"]:
        return self.layers(molecules)


class GraphNetwork(nn.Module):
    """Embedded atoms, layers that pass messages along bonds, then min, max and mean over atoms.

    Every layer adds to what it is given. Batch norms are over all atoms, or bonds, of a minibatch.
    """

    def __init__(self, layers: list[nn.Module], width: int, features: int):
        super().__init__()
        self.num_features = features
        self.atoms, self.bonds = Embedded(ATOM_SIZES, width), Embedded(BOND_SIZES, width)
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(Norm(width) for _ in layers)
        self.readout = nn.Sequential(
            nn.Linear(3 * width, width), nn.ReLU(), Norm(width), nn.Linear(width, features)
        )

    def forward(self, molecules: Batch) -> Float[Tensor, "n d"]:
        h, bonds = self.atoms(molecules.x), self.bonds(molecules.edge_attr)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = h + norm(layer(h, molecules.edge_index, bonds))
        of, n = molecules.batch, molecules.num_graphs
        return self.readout(
            torch.cat([pooled(h, of, n, how) for how in ("amin", "amax", "mean")], 1)
        )


class PNALayer(nn.Module):
    r"""Principal neighbourhood aggregation: four aggregates of messages, at three scales.

    .. math::

        U\Big(x_i,\ \big[1,\ \tfrac{\log(d_i + 1)}{\delta},\ \tfrac{\delta}{\log(d_i + 1)}\big]
        \otimes \big[\text{mean}, \max, \min, \text{sd}\big]_{j \in N(i)}\, M(x_j, x_i, e_{ji})\Big)

    An atom without bonds has aggregates 0, and is scaled as if it had one bond.

    Source: Corso et al. (2020), equations 5–8; the layers of M and U are those of
    gwatkinson/jump_models (linear, ReLU, batch norm, linear, batch norm; linear). torch-geometric's
    `PNAConv` has no batch norm in M, and projects bonds and output once more.
    """

    def __init__(self, width: int, delta: float):
        super().__init__()
        self.register_buffer("delta", torch.tensor(delta))  # kept with the weights
        self.message = nn.Sequential(
            nn.Linear(3 * width, width), nn.ReLU(), Norm(width), nn.Linear(width, width),
            Norm(width),
        )  # fmt: skip
        self.update = nn.Linear((1 + 3 * len(AGGREGATES)) * width, width)

    def forward(
        self, x: Float[Tensor, "a w"], ends: Int[Tensor, "2 e"], bonds: Float[Tensor, "e w"]
    ) -> Float[Tensor, "a w"]:
        source, target = ends
        ends_of = (x.index_select(0, source), x.index_select(0, target))
        messages = self.message(torch.cat([*ends_of, bonds], 1))
        seen = aggregates(messages, target, len(x))
        logs = (degree(target, len(x), seen.dtype).clamp(min=1) + 1).log()[:, None]
        scaled = [seen, seen * (logs / self.delta), seen * (self.delta / logs)]
        return self.update(torch.cat([x, *scaled], 1))


def aggregates(
    messages: Float[Tensor, "e w"], target: Int[Tensor, " e"], count: int
) -> Float[Tensor, "{count} 4*w"]:
    """Mean, max, min and sd = √(max(E[m²] − E[m]², 0) + 10⁻⁵) of what each atom is sent; else 0."""
    if messages.dtype in (torch.float16, torch.bfloat16):  # differences of squares need more
        messages = messages.float()
    mean, high, low = (pooled(messages, target, count, how) for how in AGGREGATES[:3])
    square = pooled(messages.square(), target, count, "mean")
    some = degree(target, count, mean.dtype).clamp(max=1)[:, None]
    return torch.cat([mean, high, low, ((square - mean.square()).relu() + _EPS).sqrt() * some], 1)


def pooled(
    values: Float[Tensor, "n w"], index: Int[Tensor, " n"], count: int, how: str
) -> Float[Tensor, "{count} w"]:
    """mean, amax or amin of all rows of one index; 0 where there is none."""
    empty = values.new_zeros(count, values.shape[1])
    if how == "mean":
        number = degree(index, count, values.dtype).clamp(min=1)
        return empty.index_add(0, index, values) / number[:, None]
    place = index[:, None].expand_as(values)
    return empty.scatter_reduce(0, place, values, how, include_self=False)


class Norm(nn.BatchNorm1d):
    """Batch norm; by what it knows of earlier minibatches where there are fewer than two rows."""

    def forward(self, input: Float[Tensor, "n w"]) -> Float[Tensor, "n w"]:
        if len(input) > 1 or not self.training:
            return super().forward(input)
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(input, mean, var, self.weight, self.bias, eps=self.eps)


class Embedded(nn.Module):
    """The sum of an embedding for each column of small integers."""

    def __init__(self, sizes: tuple[int, ...], width: int):
        super().__init__()
        first = torch.tensor((0, *sizes[:-1])).cumsum(0)
        self.register_buffer("first", first, persistent=False)
        self.table = nn.EmbeddingBag(sum(sizes), width, mode="sum")
        nn.init.xavier_uniform_(self.table.weight)

    def forward(self, columns: Int[Tensor, "n k"]) -> Float[Tensor, "n w"]:
        return self.table(columns + self.first)


class GINLayer(GINEConv):
    """MLP((1 + ε) xᵢ + Σⱼ ReLU(xⱼ + eⱼᵢ)), then ReLU; ε is learned.

    Source: Xu et al., How Powerful are Graph Neural Networks (2019); bonds as Hu et al. (2020).
    """

    def forward(self, x: Tensor, ends: Tensor, bonds: Tensor) -> Tensor:
        return super().forward(x, ends, bonds).relu()


def _gin(width: int) -> nn.Module:
    layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), Norm(width), nn.Linear(width, width))
    return GINLayer(layers, train_eps=True)


def _released(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight, gain=1 / module.in_features)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d):
        module.momentum = 0.95
