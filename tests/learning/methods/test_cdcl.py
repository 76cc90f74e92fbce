"""CDCL's loss and centres against loops from the paper, in value, gradient and after steps."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from hcs_utils.learning.methods.cdcl import (
    CDCL,
    CDCLConfig,
    DomainCenters,
    cdcl_loss,
    off_diagonal_for,
)
from hcs_utils.learning.methods.dino import DINOConfig
from hcs_utils.learning.minibatches import Minibatch
from tests import oracles_learning as oracle
from tests import two_processes

forms = pytest.mark.parametrize("form", ["paper", "released"])
which_pairs = pytest.mark.parametrize("which", ["all", "cross"])
seeds = st.integers(0, 2**32 - 1)


def drawn(seed=0, views=8, n=6, k=7, domains=4):
    """Student and teacher outputs [v n k], domains [2 n] and filled centres, in double."""
    g = torch.Generator().manual_seed(seed)
    student = torch.randn(views, n, k, generator=g, dtype=torch.double)
    teacher = torch.randn(2, n, k, generator=g, dtype=torch.double)
    domain = torch.randint(domains, (2, n), generator=g)
    centers = DomainCenters(domains, k).double()
    centers.centers += 0.3 * torch.randn(domains, k, generator=g, dtype=torch.double)
    return student, teacher, domain, centers


# The loss


@forms
@which_pairs
@pytest.mark.parametrize("views", [2, 8])
def test_loss_and_gradient_are_those_of_the_loop(form, which, views):
    student, teacher, domain, centers = drawn(views=views)
    config = CDCLConfig(form=form, off_diagonal=0.7, weight_dino=0.4, view_pairs=which)
    grads = []
    for loss in (
        lambda s: cdcl_loss(s, teacher, domain, centers, config),
        lambda s: oracle.cdcl(s, teacher, domain, centers.centers, form, 0.4, 0.7, which=which),
    ):
        leaf = student.clone().requires_grad_()
        value = loss(leaf)
        value.backward()
        grads.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*[value for value, _ in grads], rtol=1e-10, atol=0)
    torch.testing.assert_close(*[grad for _, grad in grads], rtol=1e-8, atol=1e-12)


@forms
def test_training_follows_the_loop_step_by_step(form):
    """Six optimiser steps of a linear student: losses, weights and centres stay together."""
    g = torch.Generator().manual_seed(3)
    frequencies, config = [40, 30, 20, 10], CDCLConfig(form=form)
    weights = [nn.Parameter(0.5 * torch.randn(5, 7, generator=g).double()) for _ in range(2)]
    weights[1].data.copy_(weights[0].data)
    optimizers = [torch.optim.AdamW([w], lr=0.01) for w in weights]
    ours = DomainCenters(4, 7, frequencies=frequencies).double()
    theirs = torch.zeros(4, 7, dtype=torch.double)
    fixed = torch.randn(5, 7, generator=g).double()
    for _ in range(6):
        views = torch.randn(8, 6, 5, generator=g).double()
        domain = torch.randint(4, (2, 6), generator=g)
        teacher = views[:2] @ fixed
        losses = [
            cdcl_loss(views @ weights[0], teacher, domain, ours, config),
            oracle.cdcl(views @ weights[1], teacher, domain, theirs, form),
        ]
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ours.update(teacher.flatten(0, 1), domain.flatten(), form)
        theirs = oracle.update_centres(
            theirs, teacher.flatten(0, 1), domain.flatten(), form, frequencies
        )
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-8, atol=0)
        torch.testing.assert_close(ours.centers, theirs, rtol=1e-6, atol=1e-9)  # share: float32
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-6, atol=1e-9)
    assert theirs.abs().max() > 0.1


@forms
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_order_of_images_and_names_of_domains_do_not_matter(form, seed):
    student, teacher, domain, centers = drawn(seed)
    config = CDCLConfig(form=form)
    value = cdcl_loss(student, teacher, domain, centers, config)
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(student.shape[1], generator=g)
    moved = cdcl_loss(student[:, order], teacher[:, order], domain[:, order], centers, config)
    torch.testing.assert_close(moved, value, rtol=1e-9, atol=0)
    name = torch.randperm(len(centers.centers), generator=g)  # old name → new name
    renamed = DomainCenters(len(name), student.shape[-1]).double()
    renamed.centers[name] = centers.centers
    same = cdcl_loss(student, teacher, name[domain], renamed, config)
    torch.testing.assert_close(same, value, rtol=1e-12, atol=0)


def test_loss_reads_centres_and_never_updates_them():
    student, teacher, domain, centers = drawn()
    before = centers.centers.clone()
    value = cdcl_loss(student, teacher, domain, centers, CDCLConfig())
    assert torch.equal(centers.centers, before)
    centers.centers += 1.0 * torch.arange(7)  # a shift of each output changes the teacher's view
    assert cdcl_loss(student, teacher, domain, centers, CDCLConfig()) != value


@forms
@which_pairs
def test_fourteen_pairs_of_which_eight_cross_domains(form, which):
    """A pair (i, j) is there if moving teacher view i changes the pull on student view j."""
    student, teacher, domain, centers = drawn()

    def pull(t):
        leaf = student.clone().requires_grad_()
        cdcl_loss(leaf, t, domain, centers, CDCLConfig(form=form, view_pairs=which)).backward()
        return leaf.grad

    found, base = [], pull(teacher)
    for i in range(2):
        moved = teacher.clone()
        moved[i] += torch.randn(teacher[i].shape, dtype=torch.double)
        changed = (pull(moved) - base).abs().amax((1, 2)) > 1e-12
        found += [(i, j) for j in range(8) if changed[j]]
    assert found == oracle.pairs(8, which) and len(found) == {"all": 14, "cross": 8}[which]
    owner = [0, 1, 0, 0, 0, 1, 1, 1]  # image of each view, as views.multi_crop orders them
    assert sum(owner[i] != owner[j] for i, j in found) == 8


def test_the_balance_of_the_released_weight_is_kept_for_narrow_heads():
    assert off_diagonal_for(4096) == pytest.approx(0.95, abs=1e-12)
    assert off_diagonal_for(256) == pytest.approx(0.54, abs=0.005)
    for width in (16, 256, 1024):
        w = off_diagonal_for(width)
        assert w / ((1 - w) * (width - 1)) == pytest.approx(0.95 / (0.05 * 4095))


# Centres


def test_centres_are_taken_from_each_row_by_its_own_domain():
    _, teacher, domain, centers = drawn()
    for row in range(6):
        expected = teacher[0, row] - centers.centers[domain[0, row]]
        torch.testing.assert_close(centers(teacher[0], domain[0])[row], expected)


@forms
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_centres_follow_the_loop_and_absent_domains_stay(form, seed):
    _, teacher, domain, centers = drawn(seed)
    centers.share.copy_(torch.tensor([0.5, 0.25, 0.125, 0.125]))
    rows, which = teacher.flatten(0, 1), domain.flatten() % 3  # domain 3 is absent
    before = centers.centers.clone()
    centers.update(rows, which, form)
    slow = oracle.update_centres(before, rows, which, form, [4, 2, 1, 1])
    torch.testing.assert_close(centers.centers, slow, rtol=1e-6, atol=1e-8)  # m in float32
    assert torch.equal(centers.centers[3], before[3])


def test_equal_domains_seen_at_their_share_make_both_forms_one():
    _, teacher, _, centers = drawn()
    domain = torch.arange(4).repeat(3)
    other = DomainCenters(4, 7).double()
    other.centers.copy_(centers.centers)
    centers.update(teacher.flatten(0, 1), domain, "paper")
    other.update(teacher.flatten(0, 1), domain, "released")
    torch.testing.assert_close(centers.centers, other.centers)


@pytest.mark.parametrize(
    ("share", "factor"),
    [(1 / 8, 1 - 0.1 * 8), (1 / 16, 1 - 0.1 * 16), (1 / 50, 1 - 0.1 * 50)],
    ids=["damped", "w_d > 10 overshoots", "w_d > 20 diverges"],
)
def test_released_centres_of_an_over_represented_domain_run_away(share, factor):
    """With all rows from one domain its error is multiplied by 1 − 0.1 w_d at each step."""
    rows, domain = torch.ones(6, 3), torch.zeros(6, dtype=torch.long)
    centers = DomainCenters(2, 3, frequencies=[share, 1 - share])
    paper = DomainCenters(2, 3, frequencies=[share, 1 - share])
    for step in range(1, 6):
        centers.update(rows, domain, "released")
        paper.update(rows, domain, "paper")
        error = (centers.centers[0] - 1).mean().item()
        assert error == pytest.approx(-(factor**step), rel=1e-3, abs=1e-6)
        assert (paper.centers[0] - 1).mean().item() == pytest.approx(-(0.9**step), rel=1e-4)
    assert (abs(error) > 1) == (share < 1 / 20)


def test_counts_stay_exact_when_outputs_are_bfloat16():
    """300 rows of one domain: 300 has no bfloat16 of its own below 304."""
    domain = torch.tensor([0] * 301 + [1])
    centers = DomainCenters(2, 2, momentum=0.0)
    centers.update(torch.ones(302, 2, dtype=torch.bfloat16), domain)
    torch.testing.assert_close(centers.centers, torch.ones(2, 2))


# The module


class Flat(nn.Module):
    """A backbone of one linear layer for views of any size."""

    num_features, channels = 6, ("a", "b")

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 6)

    def forward(self, x):
        return self.layer(x.mean((2, 3)))


@forms
@pytest.mark.parametrize("rule", ["paper", "released", "one", None])
def test_module_uses_the_centres_before_it_moves_them(form, rule):
    """Each rule of the centres with either form of the losses; None follows the form."""
    torch.manual_seed(0)
    head = DINOConfig(hidden=8, bottleneck=5, width=9)
    config = CDCLConfig(
        form=form, centers=rule, teacher_temperature=0.3, teacher_temperature_end=0.7
    )
    method = CDCL(Flat(), [5, 5, 10], head, config).double()
    assert len(method.centers.centers) == (1 if rule == "one" else 3)
    method.centers.centers.normal_()
    before = method.centers.centers.clone()
    minibatch = Minibatch(
        torch.randn(8, 2, 4, 4).double(), torch.randn(24, 2, 3, 3).double(),
        torch.arange(4), torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]),
    )  # fmt: skip
    teacher, student = method.outputs(minibatch)
    assert teacher.shape == (2, 4, 9) and student.shape == (8, 4, 9)
    expected = oracle.cdcl(
        student, teacher, minibatch.domain, before.expand(3, -1), form, teacher_temperature=0.5
    )
    loss, _ = method.loss(minibatch, 0.025)  # half of the rise of the temperature
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    after = oracle.update_centres(
        before, teacher.flatten(0, 1), minibatch.domain.flatten(), rule or form, [5, 5, 10]
    )
    torch.testing.assert_close(method.centers.centers, after, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(after[0], before[0], atol=1e-3)
    if rule != "one":
        assert torch.equal(method.centers.centers[2], before[2])
    assert "centers.centers" in method.state_dict()  # a resumed run goes on from them


@forms
def test_trivial_loss_is_that_of_equal_outputs(form):
    w, width = 0.6, 9
    config = CDCLConfig(form=form, off_diagonal=w)
    method = CDCL(Flat(), [1, 1], DINOConfig(hidden=8, bottleneck=5, width=width), config)
    closed = {
        "released": 0.25 + 0.75 * (1 - w) / ((1 - w) + w / 100),
        "paper": 14 * (0.25 * math.log(width) + 0.75 * width),
    }[form]
    assert method.trivial_loss == pytest.approx(closed, rel=1e-5)


# Several processes


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes has after the steps in which they shared the minibatches."""
    folder = str(tmp_path_factory.mktemp("two"))
    spawning = torch.multiprocessing.get_context("spawn")
    second = spawning.Process(target=two_processes.work, args=(1, folder))
    second.start()
    two_processes.work(0, folder)
    second.join()
    return [load_file(f"{folder}/{rank}.safetensors") for rank in range(2)]


@pytest.mark.parametrize("kind", two_processes.KINDS)
def test_two_processes_are_one_with_the_joined_minibatch(two, kind):
    """Loss, gradients, weights and centres; Barlow's statistics are of all rows, not of half."""
    alone = two_processes.trained(kind)
    assert any(k.startswith("gradient student.") for k in alone)
    for rank in two:
        own = {name: rank[f"{kind}/{name}"] for name in alone}
        torch.testing.assert_close(own, alone, rtol=1e-6, atol=1e-9)
