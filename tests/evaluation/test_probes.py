from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from sklearn.linear_model import LogisticRegression
from torch import nn

from hcs_utils.errors import InputError
from hcs_utils.evaluation import probes
from hcs_utils.evaluation.probes import QC_LINEAR, ProbeConfig, finetune, linear_probe, train_head
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.views import Normaliser
from tests.evaluation.planted import clusters, quick, seeds

CHANNELS = ("DNA", "ER")
SHORT = ProbeConfig(epochs=15, minibatch=16, learning_rate=0.02, milestones=(12,))


@pytest.fixture(autouse=True)
def alone(one_thread):
    """Sums in one order."""


# A linear probe


@given(seeds)
@quick
def test_linear_probe_is_perfect_on_what_is_apart_and_at_its_null_on_noise(seed):
    bank, labels = clusters(seed, 120, spread=0.05)
    query, truth = clusters(seed + 1, 100, spread=0.05)
    found = linear_probe(bank, labels, query, truth, form="crossmodal")
    assert found["accuracy"] == found["f1_weighted"] == found["auc_weighted"] == 1
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (2, 100, 8))
    null = linear_probe(noise[0], labels[:100], noise[1], truth, form="crossmodal")
    assert abs(null["accuracy"] - 0.2) < 0.24  # six standard deviations


def test_the_order_of_rows_and_the_unit_of_a_feature_change_nothing():
    bank, labels = clusters(0, 150, spread=1.5)
    query, truth = clusters(1, 150, spread=1.5)
    unit = np.geomspace(1e-2, 1e3, 8)
    order = np.random.default_rng(0).permutation(150)
    one = linear_probe(bank, labels, query, truth)
    two = linear_probe(bank * unit + 3, labels, query * unit + 3, truth)
    assert one["c"] == two["c"] and one["accuracy"] == pytest.approx(two["accuracy"], abs=0.01)
    turned = linear_probe(bank, labels, query[order], truth[order])
    assert turned == pytest.approx(one, abs=1e-6)


def test_crossmodal_form_is_that_of_scikit_learn_as_it_comes():
    bank, labels = clusters(2, 200, spread=2.0)
    query, truth = clusters(3, 200, spread=2.0)
    bank, query = bank * np.arange(1, 9), query * np.arange(1, 9)
    alone = LogisticRegression(max_iter=1000, C=1.0).fit(bank, labels)
    found = linear_probe(bank, labels, query, truth, form="crossmodal")
    assert found["accuracy"] == pytest.approx(alone.score(query, truth), abs=0.011)
    assert found["c"] == 1 and linear_probe(bank, labels, query, truth)["c"] in probes.GRID


def test_c_is_chosen_by_whole_groups_inside_the_bank():
    """A feature that tells the well: rows of one well on both sides would make any C look good."""
    rng = np.random.default_rng(0)
    well = np.repeat(np.arange(40), 3)
    labels = (well % 2).astype(str)
    wells = rng.normal(0, 3, (40, 30))[well] + rng.normal(0, 0.01, (120, 30))
    bank = np.column_stack([wells, (well % 2) + rng.normal(0, 0.8, 120)])
    seen = []

    class Watched:
        def fit(self, x, y):
            seen.append([set(x[:, 0].round())])
            return self

        def predict(self, x):
            seen[-1].append(set(x[:, 0].round()))
            return np.full(len(x), "0")

    chosen = probes._best_c(lambda c: Watched(), well[:, None].astype(float), labels, well, 0)
    assert len(seen) == 5 * len(probes.GRID) and all(not fit & test for fit, test in seen)
    assert all(len(fit | test) == 40 for fit, test in seen)
    assert chosen == probes.GRID[0]  # all are equal: the strongest penalty
    rest = linear_probe(bank, labels, bank[::-1], labels[::-1], groups=well)
    other = linear_probe(bank, labels, bank[:2] + 9, ["0", "1"], groups=well)
    assert rest["c"] == other["c"]  # whatever is asked


def test_few_of_a_class_weigh_as_much_as_many():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [380, 20])
    bank = rng.normal(0, 1, (400, 2)) + 1.5 * labels[:, None]
    truth = np.repeat([0, 1], 200)
    query = rng.normal(0, 1, (400, 2)) + 1.5 * truth[:, None]
    tuned, plain = (
        linear_probe(bank, labels, query, truth, form=f) for f in ("tuned", "crossmodal")
    )
    assert tuned["balanced_accuracy"] > plain["balanced_accuracy"] + 0.1


# A head


def test_the_head_alone_ends_where_scikit_learn_does():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (240, 5))
    y = (x @ rng.normal(0, 1, (5, 3)) + rng.gumbel(size=(240, 3))).argmax(1)  # no plane parts them
    features, code = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    config = ProbeConfig(400, 240, 0.5, 0.9, (300,), balanced=False)
    torch.manual_seed(0)
    head = nn.Linear(5, 3)
    log = train_head(head, lambda rows: features[rows], code, config, seed=0)
    oracle = LogisticRegression(C=np.inf, max_iter=5000, tol=1e-8).fit(x, y)
    ours = head(features).softmax(1).detach().numpy()
    np.testing.assert_allclose(ours, oracle.predict_proba(x), atol=2e-3)
    best = -np.log(oracle.predict_proba(x)[np.arange(240), y]).mean()
    assert log["loss"].iloc[-1] == pytest.approx(best, abs=1e-4) and log["loss"].iloc[0] > best


def test_rates_fall_at_the_milestones_and_every_row_is_seen_once_an_epoch():
    seen = []

    def inputs(rows):
        seen.append(rows)
        return torch.ones(len(rows), 2)

    config = replace(QC_LINEAR, epochs=6, milestones=(2, 5), minibatch=4)
    code = torch.tensor([0, 1] * 4 + [1])  # nine rows: no minibatch of one
    log = train_head(nn.Linear(2, 2), inputs, code, config, seed=1)
    np.testing.assert_allclose(log["learning_rate"] * 1e3, [1, 1, 0.1, 0.1, 0.1, 0.01])
    assert len(seen) == 18 and {len(rows) for rows in seen} == {3}
    for epoch in range(6):
        assert sorted(np.concatenate(seen[3 * epoch : 3 * epoch + 3])) == list(range(9))
    assert not np.array_equal(seen[0], seen[3])


def test_class_weights_make_the_loss_that_of_a_balanced_set():
    x = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    code = torch.tensor([0, 0, 0, 1])
    logs = []
    for rows, balanced in ((range(4), True), ((0, 3), False)):
        head = nn.Linear(1, 2)
        with torch.no_grad():
            head.weight.fill_(0.3), head.bias.copy_(torch.tensor([0.2, -0.4]))
        config = ProbeConfig(1, 4, 0.0, balanced=balanced)
        chosen = list(rows)
        logs.append(
            train_head(head, lambda r, c=chosen: x[c][r], code[chosen], config, 0)["loss"][0]
        )
    assert logs[0] == pytest.approx(logs[1], abs=1e-6)


def test_adamw_warms_up_and_falls_as_in_training():
    config = replace(probes.CDCL_MOA, epochs=40, minibatch=4)
    log = train_head(nn.Linear(2, 2), lambda rows: torch.ones(len(rows), 2),
                     torch.tensor([0, 1] * 2), config, seed=0)  # fmt: skip
    rates = log["learning_rate"]
    assert rates[0] == pytest.approx(3.5e-4) and rates.max() == pytest.approx(7e-4)
    assert rates.iloc[-1] < 2e-5


# Fine-tuning


def spots(n, seed):
    """Fields of 24 px with spots of three widths, all as bright, and the class of each."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    grid = np.stack(np.meshgrid(np.arange(24), np.arange(24)), -1)
    images = rng.normal(60, 12, (n, 2, 24, 24))
    for i, k in enumerate(label):
        width = (1.0, 1.6, 2.6)[k]
        for at in rng.uniform(2, 22, (6, 2)):
            distance = ((grid - at) ** 2).sum(-1) / width**2
            images[i] += 110 / width * np.exp(-distance / 2)
    return torch.tensor(images.clip(0, 255).astype(np.uint8)), np.array(list("abc"))[label]


@pytest.fixture(scope="module")
def task():
    images, label = spots(150, 0)
    torch.manual_seed(0)
    network = encoder("tiny", CHANNELS)
    norm = Normaliser(torch.tensor([[60.0, 60.0]]), torch.tensor([[20.0, 20.0]]))
    given = dict(plate=np.zeros(150, int), normaliser=norm, channels=CHANNELS, size=20)
    return network, images, label, np.arange(96), np.arange(96, 150), given


def test_fine_tuning_beats_the_frozen_random_encoder_and_leaves_it_as_it_was(task):
    network, images, label, bank, query, given = task
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.get_rng_state()
    tuned = finetune(network, images, label, bank, query, config=SHORT, **given)
    frozen = finetune(network, images, label, bank, query, frozen=True, **given)
    assert tuned.scores["accuracy"] > max(0.8, frozen.scores["accuracy"] + 0.1)
    assert len(tuned.log) == 15 and len(frozen.log) == QC_LINEAR.epochs == 150
    for probe, same in ((tuned, False), (frozen, True)):
        changed = [not torch.equal(v, before[k]) for k, v in probe.encoder.state_dict().items()]
        assert any(changed) != same
        assert (probe.predicted == probe.classes[probe.share.argmax(1)]).all()
        assert probe.scores["accuracy"] == (probe.predicted == label[query]).mean()
        np.testing.assert_allclose(probe.share.sum(1), 1)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers go on


def test_the_same_seed_is_the_same_probe_and_masks_are_rows(task):
    network, images, label, bank, query, given = task
    config = replace(SHORT, epochs=1)
    mask = np.arange(150) < 96
    one = finetune(network, images, label, bank, query, config=config, seed=3, **given)
    two = finetune(network, images, label, mask, ~mask, config=config, seed=3, **given)
    other = finetune(network, images, label, bank, query, config=config, seed=4, **given)
    np.testing.assert_array_equal(one.share, two.share)
    assert not np.array_equal(one.share, other.share)


def test_the_images_of_the_query_change_nothing_that_is_learned(task):
    network, images, label, bank, query, given = task
    dark = images.clone()
    dark[query] = 0
    config = replace(SHORT, epochs=1)
    logs = [
        finetune(network, x, label, bank, query, config=config, **given).log for x in (images, dark)
    ]
    assert logs[0].equals(logs[1])


def test_a_store_goes_the_same_way_as_its_images(smoke):
    torch.manual_seed(0)
    network = encoder("tiny", smoke.channels)
    norm = Normaliser(torch.full((1, 5), 50.0), torch.full((1, 5), 30.0))
    given = dict(plate=np.zeros(144, int), normaliser=norm, channels=smoke.channels, size=40)
    treated = np.flatnonzero(smoke.table["role"] == "trt")
    rows = [treated[::2], treated[1::2]]
    shares = [
        finetune(network, images, smoke.table["treatment"], *rows, frozen=True,
                 config=replace(QC_LINEAR, epochs=1), **given).share
        for images in (smoke.store, smoke.images())
    ]  # fmt: skip
    np.testing.assert_array_equal(*shares)


# Refusals


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(bank_labels=np.zeros(30, int)), "one class only"),
        (dict(query_labels=np.arange(30)), "30 rows of 3 classes; 27 of the query are not among"),
        (dict(bank_labels=np.arange(3)), r"bank_labels has shape \(3,\) for 30"),
        (dict(query=np.ones((30, 2))), "bank has 3 features and the query 2"),
        (dict(bank=np.full((30, 3), np.nan)), "hold NaN"),
        (dict(form="lasso"), "form must be"),
        (dict(groups=np.ones(30)), "belong to one group"),
        (dict(groups=np.ones(4)), r"groups has shape \(4,\)"),
    ],
)
def test_what_a_linear_probe_cannot_do_is_told(changed, words):
    rng = np.random.default_rng(0)
    good = dict(bank=rng.normal(size=(30, 3)), bank_labels=np.arange(30) % 3)
    good |= dict(query=rng.normal(size=(30, 3)), query_labels=np.arange(30) % 3)
    with pytest.raises(InputError, match=words):
        linear_probe(**(good | changed))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(channels=("ER", "DNA")), r"channels \['ER', 'DNA'\], the encoder was made for"),
        (dict(bank=np.arange(0, 96, 3)), r"one class only \(a\)"),
        (dict(bank=np.array([0, 1, 3, 4])), "4 rows of 2 classes; 1 of the query .* c. Label"),
        (dict(query=np.arange(90, 150)), "6 rows are in bank and query: 90, 91"),
        (dict(query=np.array([150])), "query must be a mask"),
        (dict(bank=np.zeros(150, bool)), "hold at least one row"),
        (dict(label=np.array([None] * 150, object)), "label is missing in 150"),
        (dict(config=ProbeConfig(learning_rate=1e30, epochs=2)), "The loss is .* below 1e"),
        (dict(config=ProbeConfig(optimiser="lion")), "optimiser must be"),
    ],
)
def test_what_fine_tuning_cannot_do_is_told(task, changed, words):
    network, images, label, bank, query, given = task
    good = dict(images=images, label=label, bank=bank, query=query) | given
    with pytest.raises(InputError, match=words):
        finetune(network, **(good | changed))


def test_few_rows_of_each_label_are_enough_to_choose_c_and_one_of_each_is_not():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 3)
    bank = 5 * np.eye(4)[labels] + 0.1 * rng.normal(size=(12, 4))
    assert probes.linear_probe(bank, labels, bank, labels)["accuracy"] == 1
    with pytest.raises(InputError, match="No label of the bank stands on two rows"):
        probes.linear_probe(bank[::3], labels[::3], bank, labels)
