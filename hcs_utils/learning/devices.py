"""Where training runs: on which devices, in which arithmetic, compiled or as written."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies import DDPStrategy
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from hcs_utils.errors import InputError
from hcs_utils.learning import ranks


def fabric(accelerator: str, precision: str) -> Fabric:
    """One device, whatever cluster it is on; within `ranks.joined` one of several, in step.

    ``precision`` is 32-true, bf16-mixed, or 16-mixed, whose gradients are scaled, on GPUs only.
    """
    choice: dict = {"accelerator": accelerator, "devices": 1}
    plugins: list = [LightningEnvironment()]
    if precision != "32-true":
        kind = Fabric(**choice, plugins=plugins).device.type
        if precision == "16-mixed" and kind == "cpu":
            raise InputError(
                "precision='16-mixed' needs a GPU, and this run is on a CPU. Take 'bf16-mixed', "
                "which works on both, or '32-true'."
            )
        plugins.append(MixedPrecision(precision, kind))  # given by name, Fabric prints a line
    if ranks.count() == 1:
        return Fabric(**choice, plugins=plugins)
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    choice |= {"devices": local, "num_nodes": ranks.count() // local, "strategy": DDPStrategy()}
    # of 1×1 kernels, whose strides may be told in two ways; their gradients are the same
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    several = Fabric(**choice, plugins=[TorchElasticEnvironment(), *plugins[1:]])
    several.launch()
    return several


def synchronised(method: nn.Module) -> nn.Module:
    """Batch norm over the minibatch of all processes; on CPUs torch has none, which is said."""
    if ranks.count() == 1 or not any(isinstance(m, _BatchNorm) for m in method.modules()):
        return method
    if next(method.parameters()).is_cuda:
        return convert_sync_batchnorm(method)
    if ranks.this() == 0:
        tqdm.write(
            "On CPUs each process normalises its own share of a minibatch: batch norm over all of "
            "them needs GPUs."
        )
    return method


@contextmanager
def compiled(method: nn.Module, wanted: bool) -> Iterator[Callable]:
    """The method's encoders through torch.compile; the names of their weights stay as they are.

    Yields a context in which they run as written: an odd minibatch is not worth a compilation.
    Afterwards they run as written, too.
    """
    if not wanted:
        yield nullcontext
        return
    from torch._dynamo.exc import TorchDynamoException

    encoders = [m for m in method.children() if hasattr(m, "num_features")]
    for encoder in encoders:
        encoder.forward = torch.compile(encoder.forward, dynamic=False)
    try:
        yield lambda: torch.compiler.set_stance("force_eager")
    except TorchDynamoException as error:
        raise InputError(
            f"torch.compile failed ({type(error).__name__}: {str(error).splitlines()[0]}). It "
            "needs a C++ compiler, and on a GPU triton. Install them, or set compile to false: "
            "the run is the same, if slower."
        ) from error
    finally:
        for encoder in encoders:
            del encoder.forward
