r"""A3, an autoencoder with a small block in its bottleneck, trained and recorded.

**A3** is an autoencoder with two bottlenecks of two units and a 2 × 2 block between
them, without biases,

.. math::
    h = \tanh W_1 x, \qquad z = \tanh W_2 h, \qquad z' = \tanh W z, \qquad
    \hat x = W_5 W_4 z',

with widths D-h-2-2-h-D, loss :math:`L = \frac{1}{2N} \sum_n |\hat x_n - y_n|^2` over N
pairs of an input and a target, and stochastic gradient descent (SGD) with minibatches
of B pairs drawn with replacement. Inputs may be corrupted targets. This matters: a
bottleneck without corruption learns to leave no error that the decoder could express,
and then the gradient noise of the block dies.

Of the outer layers and of the data the block :math:`W` sees only

.. math:: z_n, \qquad b_n = U^T y_n, \qquad G = U^T U, \qquad U = W_5 W_4 .

:func:`record` keeps this *rest* at every step of one SGD run; with it
:mod:`fpbook.resolved_block` replays the run for the block alone. :func:`retrain_whole`
trains all layers again, so that the outer ones respond to the block.

Conventions: the learning rate :math:`\eta` is that of the block, the outer layers have
:math:`\rho\, \eta` (``outer_ratio``); training time is :math:`\eta` times the step;
blocks as vectors are row-major, :math:`w = (W_{11}, W_{12}, W_{21}, W_{22})`.

Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpbook.langevin import move_ensemble
from fpbook.validation import (
    require_array,
    require_generator,
    require_integer,
    require_positive,
    require_real,
    require_seed,
    require_type,
    require_walkers,
)

Array = NDArray[np.float64]

# --- one network --------------------------------------------------------------------


class Network(NamedTuple):
    """Weights of one network, or of M of them with a leading axis (M, ...).

    Attributes
    ----------
    W1, W2
        Encoder, shapes (h, D) and (2, h).
    W
        The block, shape (2, 2).
    W4, W5
        Decoder, shapes (h, 2) and (D, h).
    """

    W1: Array
    W2: Array
    W: Array
    W4: Array
    W5: Array


def balanced_network(
    inputs: int, hidden: int, seed: int | np.random.Generator
) -> Network:
    r"""Random weights that treat both units of the bottleneck alike.

    :math:`W_1` has orthogonal rows of length 1.5, :math:`W_2` orthonormal rows,
    :math:`W = 1`, and :math:`W_4`, :math:`W_5` orthogonal columns of length 0.5. With
    independent normal weights one of the two units often takes over and
    :math:`G = U^T U` is close to singular: the block then hardly matters.

    Parameters
    ----------
    inputs, hidden
        Widths D >= h >= 2.
    seed
        Seed or generator of the random weights.

    Returns
    -------
    Network
        The weights.

    Raises
    ------
    ValueError
        If a width is not allowed.
    """
    require_integer(2, hidden=hidden)
    require_integer(hidden, inputs=inputs)
    rng = require_generator(seed)

    def columns(length: int, count: int) -> Array:
        return np.asarray(np.linalg.qr(rng.standard_normal((length, count)))[0])

    return Network(
        1.5 * columns(inputs, hidden).T,
        columns(hidden, 2).T,
        np.eye(2),
        0.5 * columns(hidden, 2),
        0.5 * columns(inputs, hidden),
    )


def network_gradient(network: Network, x: Array, y: Array) -> Network:
    r"""Gradient of the mean loss of a minibatch, for one network or for many.

    Back-propagation through
    :math:`\hat x = W_5 W_4 \tanh(W \tanh(W_2 \tanh(W_1 x)))` of
    :math:`\frac{1}{2B} \sum |\hat x - y|^2`. Source: the module's docstring.

    Parameters
    ----------
    network
        Weights, with leading axes (M,) or none.
    x, y
        Inputs and targets, shape (B, D), or (M, B, D): one minibatch per network.

    Returns
    -------
    Network
        Gradients, of the shapes of the weights. Where a number is not finite, neither
        is the gradient.

    Raises
    ------
    ValueError
        If an argument is not made of real numbers, or shapes do not fit.
    TypeError
        If ``network`` is no :class:`Network`.
    """
    _check_minibatch(network, x, y)
    return _gradient(network, x, y)


def _check_minibatch(network: Network, x: Array, y: Array) -> None:
    _check_shapes(network)
    *many, _, inputs = network.W1.shape
    shape = require_real("x", x).shape
    if len(shape) < 2 or shape not in (
        (shape[-2], inputs),
        (*many, shape[-2], inputs),
    ):
        raise ValueError(
            f"x must have shape {('B', inputs)}, or {(*many, 'B', inputs)}, got {shape}"
        )
    if not shape[-2]:
        raise ValueError(f"x must have B >= 1, got shape {shape}")
    if require_real("y", y).shape != shape:
        raise ValueError(f"y must have the shape {shape} of x, got {np.shape(y)}")


def _check_shapes(network: Network) -> None:
    require_type(Network, network=network)
    shapes = tuple(require_real("network", weights).shape for weights in network)
    *many, hidden, inputs = shapes[0] if len(shapes[0]) > 1 else (0, 0)
    ends = ((hidden, inputs), (2, hidden), (2, 2), (hidden, 2), (inputs, hidden))
    wanted = tuple((*many, *end) for end in ends)
    if shapes != wanted:
        raise ValueError(f"network must have the shapes {wanted}, got {shapes}")


def _gradient(network: Network, x: Array, y: Array) -> Network:
    W1, W2, W, W4, W5 = network
    h = np.tanh(x @ _transposed(W1))
    z = np.tanh(h @ _transposed(W2))
    z1 = np.tanh(z @ _transposed(W))
    m = z1 @ _transposed(W4)
    to_output = (m @ _transposed(W5) - y) / x.shape[-2]
    to_m = to_output @ W5
    to_z1 = (to_m @ W4) * (1 - z1**2)
    to_z = (to_z1 @ W) * (1 - z**2)
    to_h = (to_z @ W2) * (1 - h**2)
    return Network(
        _transposed(to_h) @ x,
        _transposed(to_z) @ h,
        _transposed(to_z1) @ z,
        _transposed(to_m) @ z1,
        _transposed(to_output) @ m,
    )


def _transposed(matrices: Array) -> Array:
    return np.swapaxes(matrices, -1, -2)


# --- the record ---------------------------------------------------------------------


class Rest(NamedTuple):
    """What the block sees of the outer layers and of the data, at one instant.

    Attributes
    ----------
    z
        What enters the block, shape (N, 2).
    b
        Targets as the decoder sees them, ``y @ U``, shape (N, 2).
    G
        Metric of the decoder, ``U.T @ U``, shape (2, 2).
    """

    z: Array
    b: Array
    G: Array


class Record(NamedTuple):
    """One SGD run, as far as retraining needs it.

    Attributes
    ----------
    start
        All weights at step 0 of the record.
    rests
        What the block saw before each step, and at the end: a list of ``steps + 1``.
    blocks
        The block's own path, shape (steps + 1, 4), row-major.
    learning_rate, outer_ratio
        Learning rate of the block, and of the outer layers in units of it.
    batch_size
        Pairs in a minibatch.
    """

    start: Network
    rests: list[Rest]
    blocks: Array
    learning_rate: float
    outer_ratio: float
    batch_size: int


def record(
    inputs: ArrayLike,
    targets: ArrayLike,
    network: Network,
    learning_rate: float,
    batch_size: int,
    steps: int,
    seed: int | np.random.Generator,
    *,
    outer_ratio: float = 1.0,
    skip: int = 0,
) -> Record:
    r"""Train one whole network by SGD and record what its block sees.

    .. math:: W \leftarrow W - \eta\, \partial_W L_B, \qquad
        W_i \leftarrow W_i - \rho\, \eta\, \partial_{W_i} L_B
        \quad (i = 1, 2, 4, 5)

    Source: the module's docstring.

    Parameters
    ----------
    inputs, targets
        Pairs, shape (N, D) each.
    network
        Weights at the start.
    learning_rate
        :math:`\eta > 0` of the block. Step k is training time ``k * learning_rate``.
    batch_size
        :math:`B \ge 1`, drawn with replacement.
    steps
        Steps to record, >= 1.
    seed
        Seed or generator of the minibatches.
    outer_ratio
        :math:`\rho > 0`: learning rate of the outer layers divided by that of the
        block.
    skip
        Steps of training before the record begins, >= 0; step 0 is after them.

    Returns
    -------
    Record
        The record.

    Raises
    ------
    ValueError
        If an argument is out of range, or shapes do not fit.
    TypeError
        If ``network`` is no :class:`Network`.
    FloatingPointError
        If the weights are not finite; names the step.
    """
    x, y = _pairs(inputs, targets)
    _check_network(network, x.shape[1])
    require_positive(learning_rate=learning_rate, outer_ratio=outer_ratio)
    require_integer(1, batch_size=batch_size, steps=steps)
    require_integer(0, skip=skip)
    rng = require_generator(seed)
    now = start = network
    rests: list[Rest] = []
    blocks = np.empty((steps + 1, 4))
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(-skip, steps + 1):
            if not all(np.isfinite(weights).all() for weights in now):
                raise FloatingPointError(
                    f"weights are not finite at step {k}; a smaller learning_rate may "
                    "help"
                )
            if k == 0:
                start = now
            if k >= 0:
                rests.append(_seen(now, x, y))
                blocks[k] = now.W.ravel()
            if k < steps:
                chosen = rng.integers(len(x), size=batch_size)
                slope = _gradient(now, x[chosen], y[chosen])
                now = _descended(now, slope, learning_rate, outer_ratio)
    return Record(start, rests, blocks, learning_rate, outer_ratio, batch_size)


def _pairs(inputs: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    x = require_array("inputs", inputs, ("N", "D"))
    y = require_array("targets", targets)
    if y.shape != x.shape:
        raise ValueError(
            f"targets must have the shape {x.shape} of the inputs, got {y.shape}"
        )
    return x, y


def _check_network(network: Network, inputs: int) -> None:
    _check_shapes(network)
    for weights in network:
        require_array("network", weights)
    if network.W1.shape[1:] != (inputs,):
        raise ValueError(
            f"network must have W1 of shape (h, {inputs}) as the inputs ask, got "
            f"{network.W1.shape}"
        )


def _seen(network: Network, x: Array, y: Array) -> Rest:
    U = network.W5 @ network.W4
    z = np.tanh(np.tanh(x @ network.W1.T) @ network.W2.T)
    return Rest(z, y @ U, U.T @ U)


def _descended(
    network: Network, slope: Network, learning_rate: float, outer_ratio: float
) -> Network:
    rates = [learning_rate * outer_ratio] * 5
    rates[2] = learning_rate
    return Network(*(w - r * g for w, r, g in zip(network, rates, slope, strict=True)))


# --- many networks ------------------------------------------------------------------


def retrain_whole(
    history: Record,
    inputs: ArrayLike,
    targets: ArrayLike,
    start: ArrayLike,
    seed: int,
    *,
    snapshots: Sequence[int] | None = None,
    chunk: int = 128,
) -> Array:
    r"""Networks that retrain all their layers.

    They start with the outer layers of the record at step 0 and with blocks of their
    own, and make the steps of :func:`record` with minibatches of their own: the outer
    layers respond to the block. Source: the module's docstring.

    Parameters
    ----------
    history
        The record, of K steps.
    inputs, targets
        Pairs, shape (N, D) each: those of the record.
    start
        Blocks at step 0, row-major, shape (M, 4).
    seed
        Seed of the minibatches, >= 0. Results also depend on ``chunk``.
    snapshots
        Steps at which to keep the blocks, increasing, from 0 to K; None for K only.
    chunk
        Networks that move together, >= 1; so many are in memory at a time.

    Returns
    -------
    array
        Blocks, shape (len(snapshots), M, 4).

    Raises
    ------
    ValueError
        If an argument is out of range, or a shape does not fit.
    TypeError
        If ``history`` is no :class:`Record`.
    FloatingPointError
        If blocks are not finite; names the step.
    """
    require_type(Record, history=history)
    require_type(Network, **{"start of the history": history.start})
    rates = history.learning_rate, history.outer_ratio
    if not np.all(require_real("history", rates) > 0):
        raise ValueError(f"history must have learning rates > 0, got {rates}")
    require_integer(1, history=history.batch_size)
    x, y = _pairs(inputs, targets)
    _check_network(history.start, x.shape[1])
    if len(x) != len(history.rests[0].z):
        raise ValueError(
            f"inputs must be the {len(history.rests[0].z)} of the record, got {len(x)}"
        )
    walkers = require_walkers("start", start, 4)
    require_seed(seed)
    require_integer(1, chunk=chunk)

    def move(blocks: Array, rng: np.random.Generator) -> Iterator[None]:
        shared = [np.repeat(w[None], len(blocks), axis=0) for w in history.start]
        now = Network(*shared)._replace(W=blocks.reshape(-1, 2, 2))
        while True:
            chosen = rng.integers(len(x), size=(len(blocks), history.batch_size))
            slope = _gradient(now, x[chosen], y[chosen])
            now = _descended(now, slope, history.learning_rate, history.outer_ratio)
            blocks[:] = now.W.reshape(-1, 4)
            yield

    K = len(history.rests) - 1
    return move_ensemble(move, walkers, K, seed, snapshots, chunk, description="SGD")
