"""Every test works in a temporary place; the tiny simulated screen is drawn once for all."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    # third parties, as in pyproject.toml
    config.addinivalue_line(
        "filterwarnings", "ignore:.*weight_norm. is deprecated:FutureWarning:torch"
    )


@pytest.fixture(scope="session")
def shared_tmp(tmp_path_factory) -> Path:
    """A folder of this test session, the same for every xdist worker."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def places(shared_tmp, tmp_path_factory):
    """Data, results and runs of the tests; nothing of the user's own is read or written."""
    own = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HCS_DATA", str(shared_tmp / "data"))
        patch.setenv("HCS_RESULTS", str(own / "results"))
        patch.setenv("HCS_RUNS", str(own / "runs"))
        yield


@pytest.fixture(scope="session")
def smoke(places):
    """The simulated screen of size smoke in its store: 4 treatments, 6 batches, 144 fields."""
    from hcs_utils import experiments

    return experiments.prepare("simulated", "smoke")


@pytest.fixture
def one_thread():
    """One thread of torch, so that sums are made in one order; put back afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data():
    """`shared_data(name)`: a folder of real screens, or a skip with the reason."""

    def folder(name: str) -> Path:
        root = Path(os.environ.get("HCS_SHARED", CHECKOUT.parent / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(f"the real screen {name} is not on this machine ($HCS_SHARED: {root})")
        return root / name

    return folder
