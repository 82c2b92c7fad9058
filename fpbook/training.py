r"""Training networks on a few points, and recording what they say on the way.

The loss is :math:`C = \frac12 \sum_j (F(\theta; x_j) - y_j)^2`, a *sum* over the
training points, and time is :math:`t = \eta \cdot \text{step}`. A run returns the
outputs on the training points and, behind them, on test points, which is what the
linearised dynamics of :mod:`fpbook.tangent_kernel` predicts. Parameters with a leading
axis, shape (S, P), are S networks that train side by side; larger ensembles, over
widths and seeds, are the business of :mod:`fpbook.scaling`.

Source: the definitions of gradient descent, gradient flow and single-sample stochastic
gradient descent (SGD); used in the chapters *The tangent kernel and linear training*
and *Weak correlations*.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import DOP853
from torch import Tensor

from fpbook import progress
from fpbook.networks import (
    Network,
    Trace,
    as_inputs,
    as_tensor_of,
    pulled_layers,
    pulled_vector,
    trace,
)
from fpbook.tangent_kernel import empirical, sgd_schedule
from fpbook.validation import (
    require_integer,
    require_positive,
    require_snapshots,
    require_times,
)

Array = NDArray[np.float64]


class Run(NamedTuple):
    """A training run.

    Attributes
    ----------
    outputs
        On training points and test points, shape (snapshots, ..., m + n).
    params
        Parameters at the last snapshot, where a run ends, shape (..., P).
    """

    outputs: Array
    params: Tensor


def gradient_descent(
    network: Network,
    params: Tensor,
    x: ArrayLike | Tensor,
    y: ArrayLike,
    learning_rate: float,
    steps: int,
    *,
    x_test: ArrayLike | Tensor | None = None,
    snapshots: Sequence[int] | None = None,
) -> Run:
    r"""Full-batch gradient descent.

    .. math:: \theta \leftarrow \theta - \eta\, J(\theta)^T (F(\theta; X) - y)

    Parameters
    ----------
    network, params
        The network and where it starts, shape (..., P); it is not changed.
    x, y
        Training points, shape (m, input_dim), and targets, shape (..., m).
    learning_rate
        :math:`\eta > 0`.
    steps
        Number of steps, >= 0.
    x_test
        Test points, shape (n, input_dim); None for none.
    snapshots
        Step counts to return, increasing; None for all, from 0 to ``steps``.

    Returns
    -------
    Run
        Outputs and the last parameters.

    Raises
    ------
    ValueError
        If an argument is out of range or a shape does not fit.
    FloatingPointError
        If an output is not finite; names the step, the learning rate and the bound
        2 / (largest eigenvalue) of the kernel at the start.
    """
    points, targets, tests = _problem(network, params, x, y, x_test)
    require_positive(learning_rate=learning_rate)
    require_integer(0, steps=steps)
    kept = require_snapshots(
        range(steps + 1) if snapshots is None else snapshots, steps
    )
    theta, outputs, recorded = params.detach().clone(), [], set(kept)
    with torch.no_grad(), progress.bar(kept[-1], "gradient descent") as bar:
        for step in range(kept[-1] + 1):
            seen = trace(network, theta, points)
            _require_finite(seen.outputs, network, params, points, learning_rate, step)
            if step in recorded:
                outputs.append(_record(network, theta, seen.outputs, tests))
            if step < kept[-1]:
                _descend(seen, learning_rate * (seen.outputs - targets))
                bar.update(1)
    return Run(np.stack(outputs), theta)


def _descend(seen: Trace, change: Tensor) -> None:
    """Subtract ``J^T change`` from the parameters, in place through their views."""
    pulled = list(pulled_layers(seen, change))
    for layer, (weight, bias) in zip(seen.layers, pulled, strict=True):
        layer.weight.sub_(weight, alpha=layer.weight_multiplier)
        layer.bias.sub_(bias, alpha=layer.bias_multiplier)


def _record(network: Network, theta: Tensor, known: Tensor, tests: Tensor) -> Array:
    parts = [known, network(theta, tests)] if len(tests) else [known]
    return np.asarray(torch.cat(parts, dim=-1).cpu().numpy(), dtype=float)


def _require_finite(
    outputs: Tensor,
    network: Network,
    params: Tensor,
    points: Tensor,
    learning_rate: float,
    step: int,
) -> None:
    if torch.isfinite(outputs).all():
        return
    kernel = empirical(network, params.detach(), points)
    largest = float(torch.linalg.eigvalsh(kernel).max())
    raise FloatingPointError(
        f"outputs are not finite at step {step}: learning_rate is {learning_rate:.4g}, "
        f"and 2 / (largest eigenvalue {largest:.4g} of the first kernel) is "
        f"{2 / largest:.4g}"
    )


def _problem(
    network: Network,
    params: Tensor,
    x: ArrayLike | Tensor,
    y: ArrayLike,
    x_test: ArrayLike | Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    points = as_inputs(network, params, x)
    targets = as_tensor_of(params, y, "y").detach()
    outputs = (*params.shape[:-1], len(points))
    fits = targets.dim() <= len(outputs) and targets.shape[-1:] == outputs[-1:]
    fits = fits and all(
        have in (1, want)
        for have, want in zip(targets.shape[::-1], outputs[::-1], strict=False)
    )
    if not fits or not torch.isfinite(targets).all():
        raise ValueError(
            f"y must be finite and have shape (..., {len(points)}) with the leading "
            f"axes {outputs[:-1]} of params or none, as {len(points)} points x ask, "
            f"got {tuple(targets.shape)}"
        )
    tests = (
        points[:0] if x_test is None else as_inputs(network, params, x_test, "x_test")
    )
    return points, targets, tests


MOST_STEPS = 10_000
"""Steps of the integrator, after which a flow counts as stuck."""


def gradient_flow(
    network: Network,
    params: Tensor,
    x: ArrayLike | Tensor,
    y: ArrayLike,
    times: ArrayLike,
    *,
    x_test: ArrayLike | Tensor | None = None,
    rtol: float = 1e-10,
    atol: float = 1e-12,
) -> Run:
    r"""Gradient flow, integrated in weight space by DOP853.

    .. math:: \dot\theta = -J(\theta)^T (F(\theta; X) - y)

    Parameters
    ----------
    network, params, x, y, x_test
        As in :func:`gradient_descent`; float64 only.
    times
        Training times, >= 0 and increasing, shape (T,); the flow starts at 0.
    rtol, atol
        Tolerances of the integrator for the parameters, in the root mean square over
        all networks.

    Returns
    -------
    Run
        Outputs and the parameters at the last time.

    Raises
    ------
    ValueError
        If an argument is out of range, a shape does not fit or ``params`` are not
        float64.
    FloatingPointError
        If the integrator fails or needs more than 10,000 steps; says where. With relu
        the flow may come to a kink that attracts from both sides, and end there.
    """
    points, targets, tests = _problem(network, params, x, y, x_test)
    if params.dtype != torch.float64:
        raise ValueError(f"params must be float64, got {params.dtype}")
    if not torch.isfinite(params).all():
        raise ValueError("params must be finite, got NaN or infinity")
    require_positive(rtol=rtol, atol=atol)
    t = require_times(times)
    shape = params.shape

    def velocity(_: float, state: Array) -> Array:
        theta = torch.from_numpy(state).view(shape).to(params)
        seen = trace(network, theta, points)
        pulled = pulled_vector(seen, targets - seen.outputs)
        return pulled.flatten().cpu().numpy()

    state, outputs, steps = params.detach().cpu().flatten().numpy().copy(), [], 0
    if not np.isfinite(velocity(0.0, state)).all():
        # The integrator would look for a first step for ever.
        raise FloatingPointError("gradient flow stopped at time 0: it is not finite")
    # Trial steps may overflow; the step control rejects them.
    with np.errstate(all="ignore"):
        solver = DOP853(velocity, 0.0, state, t[-1], rtol=rtol, atol=atol)
    for time in t:
        while solver.t < time:
            with np.errstate(all="ignore"):
                problem, steps = solver.step(), steps + 1
            if solver.status == "failed" or steps > MOST_STEPS:
                reason = problem or f"{MOST_STEPS} steps do not reach {time:.6g}"
                relu = network.activation == "relu"
                hint = "; a neuron may slide along its kink" if relu else ""
                raise FloatingPointError(
                    f"gradient flow stopped at time {solver.t:.6g}: {reason}{hint}"
                )
        if time > 0:
            state = solver.dense_output()(time)
        theta = torch.from_numpy(state).view(shape).to(params)
        outputs.append(_record(network, theta, network(theta, points), tests))
    return Run(np.stack(outputs), theta.clone())


def sgd(
    network: Network,
    params: Tensor,
    x: ArrayLike | Tensor,
    y: ArrayLike,
    samples: ArrayLike,
    learning_rate: float,
    *,
    noise: ArrayLike | None = None,
    x_test: ArrayLike | Tensor | None = None,
    snapshots: Sequence[int] | None = None,
) -> Run:
    r"""Single-sample gradient descent, with the order of the samples given.

    .. math::
        \theta \leftarrow \theta - \eta\, \nabla F(\theta; x_s)\,
            \bigl( F(\theta; x_s) - y_s - \epsilon_s \bigr)

    All networks see the same samples and the same noise; its frozen counterpart is
    :func:`fpbook.tangent_kernel.linear_sgd`.

    Parameters
    ----------
    network, params, x, y, x_test
        As in :func:`gradient_descent`.
    samples
        Index of the training point of each step, shape (steps,).
    learning_rate
        :math:`\eta > 0`.
    noise
        Label noise :math:`\epsilon` of each step, shape (steps,); None for none.
    snapshots
        Step counts to return, increasing, from 0 to ``steps``; None for the last.

    Returns
    -------
    Run
        Outputs and the last parameters.

    Raises
    ------
    ValueError
        If an argument is out of range or a shape does not fit.
    FloatingPointError
        As in :func:`gradient_descent`.
    """
    points, targets, tests = _problem(network, params, x, y, x_test)
    require_positive(learning_rate=learning_rate)
    chosen, epsilon, kept = sgd_schedule(len(points), samples, noise, snapshots)
    theta, outputs, recorded = params.detach().clone(), [], set(kept)
    with torch.no_grad(), progress.bar(kept[-1], "SGD") as bar:
        for step in range(kept[-1] + 1):
            if step in recorded:
                known = network(theta, points)
                _require_finite(known, network, params, points, learning_rate, step)
                outputs.append(_record(network, theta, known, tests))
            if step < kept[-1]:
                j = int(chosen[step])
                seen = trace(network, theta, points[j : j + 1])
                miss = seen.outputs - targets[..., j : j + 1] - float(epsilon[step])
                _descend(seen, learning_rate * miss)
                bar.update(1)
    return Run(np.stack(outputs), theta)
