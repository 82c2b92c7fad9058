"""Deep autoencoders against automatic differentiation and descent by hand.

With one pair of data SGD is deterministic: recording and retraining are the same
descent. Statistical tolerances are four standard errors, with fixed seeds.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpbook.deep_autoencoder import (
    Network,
    balanced_network,
    network_gradient,
    record,
    retrain_whole,
)

# Some ten operations on numbers of order one: 1.1e-16 each, with a margin of 100.
ROUNDING = 1e-13
D, HIDDEN, N = 6, 3, 11


def pairs(seed=0, n=N):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, D))
    return y + rng.standard_normal((n, D)), y


def network(seed=1, leading=()):
    rng = np.random.default_rng(seed)
    shapes = ((HIDDEN, D), (2, HIDDEN), (2, 2), (HIDDEN, 2), (D, HIDDEN))
    return Network(*(0.7 * rng.standard_normal((*leading, *shape)) for shape in shapes))


def run(seed=0, steps=6, rate=0.2, batch=2, **options):
    return record(*pairs(), network(), rate, batch, steps, seed, **options)


def torch_loss(weights, x, y):
    W1, W2, W, W4, W5 = weights
    code = torch.tanh(torch.tanh(torch.tanh(x @ W1.T) @ W2.T) @ W.T)
    return ((code @ W4.T @ W5.T - y) ** 2).sum() / (2 * len(x))


def torch_gradient(weights, x, y):
    leaves = [torch.tensor(w, requires_grad=True) for w in weights]
    torch_loss(leaves, torch.tensor(x), torch.tensor(y)).backward()
    return [leaf.grad.numpy() for leaf in leaves]


# --- one network --------------------------------------------------------------------


def test_gradient_of_a_network_is_that_of_automatic_differentiation():
    x, y = pairs()
    for ours, theirs in zip(
        network_gradient(network(), x, y), torch_gradient(network(), x, y), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING)


@given(
    seed=st.integers(0, 2**32),
    angle=st.floats(-math.pi, math.pi),
    stretch=st.floats(0.5, 2),
)
def test_gradient_obeys_the_symmetry_of_the_linear_decoder(seed, angle, stretch):
    # The loss knows W5 W4 alone: it is the same for W5 S^-1 and S W4, and the gradient
    # is orthogonal to all of these, which makes flow conserve W4 W4^T - W5^T W5.
    x, y = pairs(seed)
    before = network(seed + 1)
    slope = network_gradient(before, x, y)
    balance = slope.W4 @ before.W4.T - before.W5.T @ slope.W5
    np.testing.assert_allclose(balance, 0, atol=10 * ROUNDING)
    turn = np.eye(HIDDEN)
    turn[:2, :2] = [
        [math.cos(angle), -math.sin(angle)],
        [math.sin(angle), math.cos(angle)],
    ]
    S = stretch * turn
    after = before._replace(W4=S @ before.W4, W5=before.W5 @ np.linalg.inv(S))
    turned = network_gradient(after, x, y)
    for ours, theirs in (
        (turned.W, slope.W),
        (S.T @ turned.W4, slope.W4),
        (turned.W5 @ np.linalg.inv(S).T, slope.W5),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=100 * ROUNDING)


def test_gradients_of_many_networks_are_those_of_each():
    many = network(leading=(4,))
    x, y = (np.stack(part) for part in zip(*map(pairs, range(4)), strict=True))
    together = network_gradient(many, x, y)
    for m in range(4):
        one = Network(*(w[m] for w in many))
        for ours, alone in zip(
            together, network_gradient(one, x[m], y[m]), strict=True
        ):
            np.testing.assert_allclose(ours[m], alone, rtol=0, atol=ROUNDING)


def test_balanced_network_treats_the_two_units_alike():
    W1, W2, W, W4, W5 = balanced_network(D, HIDDEN, 3)
    for gram, square in (
        (W1 @ W1.T, 2.25),
        (W2 @ W2.T, 1.0),
        (W, 1.0),
        (W4.T @ W4, 0.25),
        (W5.T @ W5, 0.25),
    ):
        np.testing.assert_allclose(gram, square * np.eye(len(gram)), atol=ROUNDING)
    U = W5 @ W4
    np.testing.assert_allclose(U.T @ U, np.eye(2) / 16, atol=ROUNDING)


# --- the record ---------------------------------------------------------------------


def test_record_is_descent_with_two_learning_rates():
    # One pair: every minibatch is the whole of the data.
    x, y = pairs(n=1)
    history = record(x, y, network(), 0.1, 3, 5, 0, outer_ratio=0.25)
    weights = list(network())
    for k in range(6):
        U = weights[4] @ weights[3]
        z = np.tanh(np.tanh(x @ weights[0].T) @ weights[1].T)
        for ours, direct in zip(
            (*history.rests[k], history.blocks[k]),
            (z, y @ U, U.T @ U, weights[2].ravel()),
            strict=True,
        ):
            np.testing.assert_allclose(ours, direct, rtol=0, atol=ROUNDING)
        slopes = torch_gradient(weights, x, y)
        rates = (0.025, 0.025, 0.1, 0.025, 0.025)
        weights = [w - r * g for w, r, g in zip(weights, rates, slopes, strict=True)]
    assert (history.learning_rate, history.outer_ratio) == (0.1, 0.25)
    assert history.batch_size == 3


def test_skipped_steps_are_the_first_ones():
    whole, late = run(steps=9), run(steps=5, skip=4)
    np.testing.assert_array_equal(late.blocks, whole.blocks[4:])
    for one, other in zip(late.rests, whole.rests[4:], strict=True):
        np.testing.assert_array_equal(one.b, other.b)
    np.testing.assert_array_equal(late.start.W.ravel(), whole.blocks[4])
    # The outer layers of the start are those of step 0 too.
    U = late.start.W5 @ late.start.W4
    np.testing.assert_allclose(U.T @ U, late.rests[0].G, rtol=0, atol=ROUNDING)
    assert not np.array_equal(run(seed=1).blocks, run(seed=2).blocks)


def block_covariance(W):
    """Gradients of the block sample by sample: their mean and covariance."""
    x, y = pairs()
    here = network()._replace(W=W.reshape(2, 2))
    samples = [
        network_gradient(here, x[n : n + 1], y[n : n + 1]).W.ravel() for n in range(N)
    ]
    return np.mean(samples, axis=0), np.cov(np.transpose(samples), bias=True)


def test_minibatches_of_the_record_have_the_variance_of_their_size():
    # One step from the same weights: Var W = eta^2 C / B, by many seeds.
    x, y = pairs()
    _, C = block_covariance(network().W)
    for batch in (1, 4):
        ends = np.array(
            [
                record(x, y, network(), 0.2, batch, 1, seed).blocks[1]
                for seed in range(2000)
            ]
        )
        squares = (ends - ends.mean(axis=0)) ** 2
        error = squares.std(axis=0) / math.sqrt(len(ends))
        gap = np.abs(squares.mean(axis=0) - 0.04 * np.diag(C) / batch)
        assert np.all(gap < 4 * error)


# --- many networks ------------------------------------------------------------------


def test_with_one_pair_retraining_repeats_the_record():
    x, y = pairs(n=1)
    history = record(x, y, network(), 0.1, 2, 8, 0, outer_ratio=0.5, skip=3)
    start = np.tile(history.blocks[0], (5, 1))
    whole = retrain_whole(history, x, y, start, 1, snapshots=range(9), chunk=2)
    for m in range(5):
        np.testing.assert_allclose(whole[:, m], history.blocks, atol=ROUNDING)
    np.testing.assert_array_equal(start, np.tile(history.blocks[0], (5, 1)))


@pytest.mark.parametrize("batch", [1, 3])
def test_one_step_has_the_mean_and_covariance_of_its_minibatch(batch):
    history = run(batch=batch, rate=0.3)
    M = 40_000
    w0 = np.array([0.4, -0.2, 0.3, 0.8])
    walkers = retrain_whole(
        history, *pairs(), np.tile(w0, (M, 1)), 6, snapshots=[1], chunk=1000
    )[0]
    slope, C = block_covariance(w0)
    shift = walkers - (w0 - 0.3 * slope)
    error = shift.std(axis=0) / math.sqrt(M)
    assert np.all(np.abs(shift.mean(axis=0)) < 4 * error)
    products = shift[:, :, None] * shift[:, None]
    error = products.std(axis=0) / math.sqrt(M)
    assert np.all(np.abs(products.mean(axis=0) - 0.09 * C / batch) < 4 * error)


def test_retraining_depends_on_seed_and_chunk_alone():
    history, start = run(), np.random.default_rng(0).standard_normal((10, 4))

    def retrain(seed, **options):
        return retrain_whole(history, *pairs(), start, seed, chunk=4, **options)

    ends = retrain(1, snapshots=[0, 3, 6])
    np.testing.assert_array_equal(ends[0], start)
    np.testing.assert_array_equal(ends[2:], retrain(1))
    np.testing.assert_array_equal(ends[1:2], retrain(1, snapshots=[3]))
    assert not np.array_equal(ends[2], retrain(2)[0])
    assert np.unique(np.round(ends[2] - ends[0], 12), axis=0).shape[0] == 10


# --- failures and arguments ---------------------------------------------------------


def test_runs_that_diverge_name_their_step():
    with pytest.raises(FloatingPointError, match="not finite at step"):
        run(rate=1e150, steps=20)
    wild = run()._replace(learning_rate=1e200)
    with pytest.raises(FloatingPointError, match=r"step \d: 3 of the 3 .* not finite"):
        retrain_whole(wild, *pairs(), np.ones((3, 4)), 0)


GOOD = {
    balanced_network: {"inputs": 6, "hidden": 3, "seed": 0},
    record: {
        "inputs": pairs()[0],
        "targets": pairs()[1],
        "network": network(),
        "learning_rate": 0.1,
        "batch_size": 2,
        "steps": 4,
        "seed": 0,
        "outer_ratio": 0.5,
        "skip": 1,
    },
    retrain_whole: {
        "history": run(),
        "inputs": pairs()[0],
        "targets": pairs()[1],
        "start": np.zeros((3, 4)),
        "seed": 0,
        "snapshots": [0, 2],
        "chunk": 2,
    },
}
BAD = [
    (balanced_network, "hidden", (1, 2.0, 7)),
    (record, "inputs", (np.zeros(6), np.full((N, D), np.nan))),
    (record, "targets", (np.zeros((N, 5)), np.full((N, D), np.inf))),
    (record, "network", (network()._replace(W=np.zeros((2, 3))),)),
    (record, "learning_rate", (0.0, -1.0, math.nan)),
    (record, "outer_ratio", (0.0, math.inf)),
    (record, "batch_size", (0, 1.5)),
    (record, "steps", (0,)),
    (record, "skip", (-1,)),
    (retrain_whole, "inputs", (np.zeros(6),)),
    (retrain_whole, "targets", (np.zeros((2, 2)),)),
    (retrain_whole, "start", (np.zeros((3, 2)), np.zeros((0, 4)), [[np.nan] * 4])),
    (retrain_whole, "seed", (-1, 0.5)),
    (retrain_whole, "chunk", (0,)),
    (retrain_whole, "snapshots", ([], [2, 1], [0, 9])),
]


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        pytest.param(function, name, value, id=f"{function.__name__}-{name}-{i}")
        for function, name, values in BAD
        for i, value in enumerate(values)
    ],
)
def test_bad_arguments_are_named(function, name, value):
    function(**GOOD[function])
    named = "inputs" if function is balanced_network and value == 7 else name
    with pytest.raises(ValueError, match=rf"^{named} must .*got "):
        function(**{**GOOD[function], name: value})


def test_retraining_needs_the_data_of_the_record():
    x, y = pairs(n=3)
    with pytest.raises(ValueError, match="inputs must be the 11 of the record, got 3"):
        retrain_whole(run(), x, y, np.zeros((2, 4)), 0)
