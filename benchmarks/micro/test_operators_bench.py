"""H x, H^T y and prox of the operators, by pytest-benchmark: `pytest benchmarks/micro --benchmark-columns=median,iqr`.

Not collected by the default test paths. deepinv's operator of the same kind stands beside ours where it has one.
"""

from typing import Any

import deepinv
import pytest
import torch
from invsolve_deepinv.physics import DeepinvOperator
from invsolve_operators import Bicubic, BlockMean, BlurDecimate, BoxMask, GaussianBlur, Grey, SeparableGaussianBlur

from invsolve import Capability

pytest.importorskip("pytest_benchmark")

SIDE = 128
SHAPE: Any = (3, SIDE, SIDE)
KERNEL = deepinv.physics.functional.gaussian_blur(sigma=(1.5, 1.5))
OPERATORS = {
    "box-mask": lambda: BoxMask(SHAPE),
    "gaussian-blur": lambda: GaussianBlur(SHAPE, 1.5),
    "separable-gaussian-blur": lambda: SeparableGaussianBlur(SHAPE, 1.5),
    "block-mean": lambda: BlockMean(SHAPE, 4),
    "bicubic": lambda: Bicubic(SHAPE, 4),
    "blur-decimate": lambda: BlurDecimate(SHAPE, 4, sigma=1.5),
    "grey": lambda: Grey(SHAPE),
    "deepinv-inpainting": lambda: DeepinvOperator(deepinv.physics.Inpainting(SHAPE, mask=BoxMask(SHAPE).mask.float()), SHAPE),
    "deepinv-blurfft": lambda: DeepinvOperator(deepinv.physics.BlurFFT(SHAPE, filter=KERNEL), SHAPE),
}


@pytest.fixture(params=OPERATORS)
def operator(request):
    torch.set_num_threads(1)
    return OPERATORS[request.param]()


def image(shape):
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_apply(benchmark, operator):
    benchmark(operator, image(operator.in_shape))


@torch.no_grad()
def test_adjoint(benchmark, operator):
    benchmark(operator.adjoint, image(operator.out_shape))


@torch.no_grad()
def test_prox(benchmark, operator):
    if not operator.has(Capability.PROX):
        pytest.skip(f"{operator.label} has no closed-form prox")
    benchmark(operator.prox, image(operator.in_shape), image(operator.out_shape), 4.0)


@torch.no_grad()
def test_prox_of_deepinv_itself(benchmark):
    physics = deepinv.physics.BlurFFT(SHAPE, filter=KERNEL)
    benchmark(physics.prox_l2, image(SHAPE), image(SHAPE), 4.0)
