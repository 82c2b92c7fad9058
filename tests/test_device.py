"""Results live where their input lives, and do not depend on where that is.

Without a GPU a test that compares the two is skipped. What can be tested everywhere:
with another default device, whatever is made without naming one meets the inputs of
the CPU and raises.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fpbook import equation_of_motion as eom
from fpbook import tangent_kernel, training, weak_correlations
from fpbook.networks import jacobian, mlp, trace

# Sums of a few hundred numbers, in another order: 1e-16 each, and steps multiply them.
RTOL, ATOL = 1e-9, 1e-12
X = np.random.default_rng(0).standard_normal((5, 3))
Y = np.array([0.3, -0.2, 0.1])


def network(device: str) -> Any:
    return mlp(8, 2, "gelu", 3, seed=1, device=device)


def quartic(theta: torch.Tensor) -> torch.Tensor:
    return (theta[0] * theta[1] - 1) ** 2 / 2 + theta[2] ** 4


def start(device: str) -> torch.Tensor:
    return torch.tensor([1.6, -0.4, 0.5], dtype=torch.float64, device=device)


def outputs(device: str) -> Any:
    net = network(device)
    return net(net.params, X)


def rows(device: str) -> Any:
    net = network(device)
    return jacobian(net, net.params, X)


def passes(device: str) -> Any:
    net = network(device)
    return trace(net, net.params, X).deltas[0]


def kernel(device: str) -> Any:
    net = network(device)
    return tangent_kernel.empirical(net, net.params, X[:3], X)


def kernel_of(device: str) -> Any:
    net = network(device)
    x = torch.as_tensor(X, device=device)
    return tangent_kernel.empirical_of(net, net.params, x)


def series(device: str) -> Any:
    net = network(device)
    return weak_correlations.taylor_coefficients(net, net.params, X[:3], Y, X, 3)


def curvature(device: str) -> Any:
    net = network(device)
    return weak_correlations.derivative_norm(net, net.params, X[:2], 2, 1)


def tensor(device: str) -> Any:
    net = network(device)
    return weak_correlations.correlation_tensor(net, net.params, X[:3], 2)


def hierarchy(device: str) -> Any:
    net = network(device)
    found = weak_correlations.tangent_hierarchy(
        net, net.params, X[:3], Y, X[3:], [0.5, 1.0], order=4
    )
    return found.outputs


def descent(device: str) -> Any:
    net = network(device)
    run = training.gradient_descent(net, net.params, X[:3], Y, 0.1, 20, x_test=X[3:])
    return run.outputs


def flow(device: str) -> Any:
    net = network(device)
    run = training.gradient_flow(net, net.params, X[:3], Y, [0.5, 1.0])
    return run.params


def sgd(device: str) -> Any:
    net = network(device)
    run = training.sgd(net, net.params, X[:3], Y, [0, 2, 1, 1], 0.1)
    return run.params


def steps(device: str) -> Any:
    return eom.gradient_descent(quartic, start(device), 0.05, 10)


def motion(device: str) -> Any:
    return eom.equation_of_motion(quartic, start(device), 0.05, 10, order=2)


def field(device: str) -> Any:
    return eom.modified_equation(quartic, start(device), order=2)


def error(device: str) -> Any:
    return eom.leading_error(quartic, start(device), 0.05, 10, order=1)


def burst(device: str) -> Any:
    return eom.burst_field(quartic, start(device), 0.05, order=2)


def flat(device: str) -> Any:
    linear = torch.nn.Linear(3, 1, device="cpu")
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.fill_(0.3)
    x, y = torch.as_tensor(X[:3], device=device), torch.as_tensor(Y, device=device)
    loss, theta = eom.flat_loss(
        linear.to(device), x, y[:, None], torch.nn.functional.mse_loss
    )
    return loss(theta)


COMPUTATIONS = [
    *(outputs, rows, passes, kernel, kernel_of, series, curvature, tensor, hierarchy),
    *(descent, flow, sgd, steps, motion, field, error, burst, flat),
]
# Those that return numbers of numpy, for figures; the others stay on their device.
ARRAYS = [descent, hierarchy]


def as_array(result: Any) -> Any:
    return result.cpu().numpy() if isinstance(result, torch.Tensor) else result


@pytest.mark.parametrize("compute", COMPUTATIONS, ids=lambda f: f.__name__)
def test_nothing_is_made_on_the_default_device(compute: Callable[[str], Any]) -> None:
    expected = as_array(compute("cpu"))
    # Nothing can be computed there: what was made by default is found at once.
    with torch.device("meta"):
        found = compute("cpu")
    assert isinstance(found, torch.Tensor) == (compute not in ARRAYS)
    np.testing.assert_array_equal(as_array(found), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("compute", COMPUTATIONS, ids=lambda f: f.__name__)
def test_a_gpu_computes_the_same(compute: Callable[[str], Any]) -> None:
    expected, found = compute("cpu"), compute("cuda")
    if compute not in ARRAYS:
        assert found.device.type == "cuda"
    np.testing.assert_allclose(as_array(found), as_array(expected), RTOL, ATOL)
