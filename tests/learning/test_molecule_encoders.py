import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn.aggr import DegreeScalerAggregation

from hcs_utils.data.screens.molecules import library
from hcs_utils.errors import InputError
from hcs_utils.learning import molecule_encoders
from hcs_utils.learning.molecule_encoders import PNALayer, aggregates, molecule_encoder, pooled
from hcs_utils.learning.molecules import Fingerprints, Graphs

SMILES = ("[He]", "CC(=O)[O-].[Na+]", "C", "Cl[C@H](/C=C/C)Br", *library()[::401])
GRAPHS = Graphs.build(SMILES)
NAMES = ("pna", "gin", "pna_small", "gin_small")


def made(name, form="paper", **sizes):
    torch.manual_seed(0)
    return molecule_encoder(name, GRAPHS.degrees(), form=form, **sizes)


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("name", NAMES)
def test_graphs_become_features_and_gradients_are_finite(name, form):
    encoder = made(name, form, hidden=16, depth=2)
    out = encoder(GRAPHS[np.arange(len(SMILES))])
    assert out.shape == (len(SMILES), encoder.num_features) and torch.isfinite(out).all()
    out.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_sizes_are_those_of_the_released_pna():
    encoder = made("pna")
    assert encoder.num_features == 256 and len(encoder.layers) == 7
    layer = encoder.layers[0]
    assert layer.message[0].weight.shape == (200, 600) and layer.update.weight.shape == (200, 2600)
    assert encoder.readout[0].weight.shape == (200, 600)
    assert made("pna_small").num_features == 32 and made("gin_small").num_features == 64


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [[0], [2], [0, 2], [3], [0, 3]])
def test_single_atoms_and_single_molecules_can_be_learned_from(name, rows):
    encoder = made(name, hidden=8, depth=2)
    out = encoder(GRAPHS[rows])
    assert out.shape == (len(rows), encoder.num_features)
    out.square().sum().backward()
    found = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert found and all(torch.isfinite(g).all() for g in found)


@pytest.mark.parametrize("name", NAMES)
def test_each_molecule_is_by_itself_in_evaluation(name):
    encoder = made(name, hidden=16, depth=2)
    for _ in range(3):
        encoder(GRAPHS[np.arange(len(SMILES))])
    encoder.eval()
    together = encoder(GRAPHS[np.arange(len(SMILES))])
    alone = torch.cat([encoder(GRAPHS[[k]]) for k in range(len(SMILES))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    turned = encoder(GRAPHS[np.arange(len(SMILES))[::-1].copy()])
    torch.testing.assert_close(together.flip(0), turned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_atoms_and_bonds_does_not_matter(name, training):
    encoder = made(name, hidden=16, depth=2).double().train(training)
    g, turned = torch.Generator().manual_seed(1), []
    for one in GRAPHS[np.arange(len(SMILES))].to_data_list():
        to = torch.randperm(one.num_nodes, generator=g)
        bonds = torch.randperm(one.num_edges, generator=g)
        x = torch.empty_like(one.x)
        x[to] = one.x
        turned.append(Data(x, to[one.edge_index[:, bonds]], one.edge_attr[bonds]))
    torch.testing.assert_close(
        encoder(GRAPHS[np.arange(len(SMILES))]), encoder(Batch.from_data_list(turned))
    )


def slow(layer, x, ends, bonds, delta):
    """PNA's layer, atom by atom, from the equations."""
    rows = []
    sent = layer.message(torch.stack([
        torch.cat([x[s], x[t], e]) for s, t, e in zip(*ends.tolist(), bonds, strict=True)
    ]))  # fmt: skip
    for i in range(len(x)):
        own = [sent[k] for k in range(len(sent)) if ends[1, k] == i]
        if own:
            m = torch.stack(own)
            sd = (m.var(0, unbiased=False) + 1e-5).sqrt()
            parts = torch.cat([m.mean(0), m.max(0).values, m.min(0).values, sd])
        else:
            parts = x.new_zeros(4 * x.shape[1])
        log = np.log(max(len(own), 1) + 1)
        rows.append(torch.cat([x[i], parts, parts * log / delta, parts * delta / log]))
    return layer.update(torch.stack(rows))


def test_pna_is_the_slow_loop_and_so_are_its_gradients():
    torch.manual_seed(0)
    layer, batch = PNALayer(6, 0.75).double(), GRAPHS[[0, 1, 3, 5]]
    results = []
    for way in (layer, lambda *a: slow(layer, *a, 0.75)):
        torch.manual_seed(1)
        x = torch.randn(len(batch.x), 6, dtype=torch.float64, requires_grad=True)
        bonds = torch.randn(len(batch.edge_attr), 6, dtype=torch.float64, requires_grad=True)
        out = way(x, batch.edge_index, bonds)
        weights = list(layer.parameters())
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, bonds, *weights])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_aggregates_and_scales_are_those_of_torch_geometric():
    torch.manual_seed(0)
    batch, degrees = GRAPHS[np.arange(3, len(SMILES))], GRAPHS.degrees()
    target, count = batch.edge_index[1], len(batch.x)
    messages = torch.randn(len(target), 5, dtype=torch.float64)
    theirs = DegreeScalerAggregation(
        ["mean", "max", "min", "std"], ["identity", "amplification", "attenuation"], degrees
    )
    assert molecule_encoders.mean_log_degree(degrees) == pytest.approx(theirs.avg_deg_log.item())
    expected = theirs.double()(messages, target, dim_size=count)
    found = aggregates(messages, target, count)
    for part in range(3):
        torch.testing.assert_close(
            found[:, 5 * part : 5 * part + 5], expected[:, 5 * part : 5 * part + 5]
        )
    more = torch.bincount(target) > 1  # theirs is 0, ours √10⁻⁵, of one message
    ours = found[more, 15:].square() - 1e-5  # theirs has 10⁻⁵ as the least, ours adds it
    torch.testing.assert_close(ours, expected[more, 15:20].square(), rtol=1e-6, atol=2e-5)
    assert found[~more, 15:].max() < 0.004


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12), st.sampled_from(["mean", "amax", "amin"]))
def test_pooling_is_group_by_group(index, how):
    values = torch.randn(len(index), 2, generator=torch.Generator().manual_seed(len(index)))
    of = torch.tensor(index, dtype=torch.long)
    slowly = {"mean": lambda m: m.mean(0), "amax": lambda m: m.amax(0), "amin": lambda m: m.amin(0)}
    expected = [slowly[how](values[of == k]) if k in index else torch.zeros(2) for k in range(6)]
    torch.testing.assert_close(pooled(values, of, 6, how), torch.stack(expected))


def test_half_precision_is_aggregated_in_single():
    messages = (100 + torch.arange(8.0)[:, None]).bfloat16()
    found = aggregates(messages, torch.zeros(8, dtype=torch.long), 1)
    expected = messages.float().var(0, unbiased=False).sqrt()
    assert found.dtype == torch.float32 and abs(found[0, 3] / expected - 1) < 0.05


def test_released_form_scales_by_one_and_starts_small():
    encoder = molecule_encoder("pna_small", form="released")
    assert all(layer.delta == 1 for layer in encoder.layers)
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms and all(m.momentum == 0.95 for m in norms)
    most = np.sqrt(6 / (3 * 32 + 32)) / (3 * 32)
    assert 0.5 * most < encoder.layers[0].message[0].weight.abs().max() <= most
    layer = made("pna_small").layers[0]
    mean = np.average(np.log(1 + np.arange(len(GRAPHS.degrees()))), weights=GRAPHS.degrees())
    assert layer.delta.item() == pytest.approx(mean)


def test_delta_is_kept_with_the_weights():
    trained, other = made("pna_small"), molecule_encoder("pna_small", torch.tensor([0, 1, 9]))
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other.layers[0].delta, trained.layers[0].delta)


def test_fingerprints_become_features():
    bits = Fingerprints.build(SMILES, bits=256)[np.arange(len(SMILES))]
    encoder = molecule_encoder("ecfp", bits=256)
    assert encoder(bits).shape == (len(SMILES), encoder.num_features)


def test_what_is_not_there_is_said():
    with pytest.raises(InputError, match=r"ecfp, pna, gin, pna_small, gin_small"):
        molecule_encoder("gcn")
    with pytest.raises(InputError, match=r"Graphs\.degrees"):
        molecule_encoder("pna")
    with pytest.raises(InputError, match="has a bond"):
        molecule_encoder("pna", torch.tensor([4]))
    with pytest.raises(InputError, match="form must be"):
        molecule_encoder("gin", form="other")
