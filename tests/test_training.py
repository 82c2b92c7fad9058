"""Training against autograd, exact solutions, conserved quantities and frozen kernels.

Descents are compared with steps that autograd takes and with the descent of Part I on
the same loss; the flow with a logistic solution, a conservation law of relu and the
limit of small steps. Two kinds of networks train exactly, or asymptotically, as the
frozen kernel says: those whose hidden neurons are all off, and those of a large scale.
"""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpbook import equation_of_motion as part_one
from fpbook import training
from fpbook.networks import ACTIVATIONS, PARAMETRIZATIONS, mlp
from fpbook.tangent_kernel import empirical, linear_dynamics, linear_sgd
from fpbook.training import gradient_descent, gradient_flow, sgd

# Some dozens of steps of a few hundred float64 operations each.
ROUNDING = 1e-12

X = np.random.default_rng(0).normal(size=(4, 3))
Y = np.array([0.5, -1.0, 0.3, 0.8])
X_TEST = np.random.default_rng(1).normal(size=(2, 3))
SAMPLES = np.array([2, 0, 3, 3, 1, 2, 0, 1, 2, 2])
NOISE = np.random.default_rng(2).normal(size=10)

every_kind = pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)


def make(depth=2, activation="erf", seed=0, parametrization="ntk", **options):
    settled = {"scale": 0.7, "sigma_w": 1.3, "sigma_b": 0.4} | options
    return mlp(5, depth, activation, 3, seed, parametrization, **settled)


def assert_close(actual, expected, tolerance=ROUNDING):
    """Compare relative to the largest number expected."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def everywhere(network, theta, x_test=X_TEST):
    """Outputs on training and test points."""
    return network(theta, np.concatenate([X, x_test])).numpy()


def sum_of_squares(network, x=X, y=Y):
    """The loss as a function of one flat vector."""
    points, targets = torch.as_tensor(x), torch.as_tensor(y)

    def loss(theta):
        return ((network(theta, points) - targets) ** 2).sum() / 2

    return loss


def by_autograd(network, batches, learning_rate):
    """Parameters after each step, each with its own points and targets."""
    path = [network.params]
    for x, y in batches:
        theta = path[-1].clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(sum_of_squares(network, x, y)(theta), theta)
        path.append(path[-1] - learning_rate * slope)
    return path


# --- gradient descent ---------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 2])
def test_descent_takes_the_steps_of_autograd(depth, activation, parametrization):
    network = make(depth, activation, parametrization=parametrization)
    path = by_autograd(network, [(X, Y)] * 12, 0.1)
    run = gradient_descent(
        network, network.params, X, Y, learning_rate=0.1, steps=12, x_test=X_TEST
    )
    assert run.outputs.shape == (13, 6)
    assert_close(run.outputs, [everywhere(network, theta) for theta in path])
    assert_close(run.params, path[-1])
    # The steps were not small.
    assert np.abs(run.outputs[-1] - run.outputs[0]).max() > 0.03


def test_descent_is_that_of_part_one_on_the_sum_of_squares():
    network = make()
    path = part_one.gradient_descent(sum_of_squares(network), network.params, 0.1, 30)
    run = gradient_descent(network, network.params, X, Y, 0.1, 30)
    assert_close(run.params, path[-1])
    assert_close(run.outputs, [network(theta, X) for theta in path])


def test_snapshots_are_rows_of_the_whole_path():
    network = make()
    arguments = (network, network.params, X, Y, 0.1, 20)
    whole = gradient_descent(*arguments, x_test=X_TEST)
    some = gradient_descent(*arguments, x_test=X_TEST, snapshots=[0, 7, 20])
    np.testing.assert_array_equal(some.outputs, whole.outputs[[0, 7, 20]])
    assert torch.equal(some.params, whole.params)
    # No test points, no outputs there.
    alone = gradient_descent(*arguments, snapshots=np.array([20]))
    np.testing.assert_array_equal(alone.outputs, whole.outputs[20:, :4])


def test_the_order_of_training_points_does_not_matter():
    network, order = make(), [2, 0, 3, 1]
    run = gradient_descent(network, network.params, X, Y, 0.1, 10)
    other = gradient_descent(network, network.params, X[order], Y[order], 0.1, 10)
    assert_close(other.outputs, run.outputs[:, order])
    assert_close(other.params, run.params)


def test_small_steps_lower_the_loss_and_find_the_targets():
    network = make(1, "tanh")
    largest = torch.linalg.eigvalsh(empirical(network, network.params, X))[-1]
    run = gradient_descent(network, network.params, X, Y, 0.3 / float(largest), 300)
    losses = ((run.outputs - Y) ** 2).sum(axis=1)
    assert np.all(np.diff(losses) < 0)
    # The slowest mode, of a 25th of the largest eigenvalue, decays as e^(-0.012 s).
    assert losses[-1] < 1e-2 * losses[0]


# --- gradient flow ------------------------------------------------------------------


@pytest.mark.parametrize("target", [2.0, -0.5])
def test_one_neuron_follows_its_logistic_curve(target):
    # F = c w W with c = scale sigma_w^2 x and w = W: dF/dt = -2 c F (F - y), unless
    # both weights pass through 0.
    network = mlp(1, 1, "relu", 1, seed=0, scale=0.8, sigma_w=1.5)
    theta, x, c = torch.zeros(4, dtype=torch.float64), 0.7, 0.8 * 1.5**2 * 0.7
    first, second = network.layers(theta)
    first.weight.fill_(0.6)
    second.weight.fill_(0.6)
    t = np.array([0.0, 0.3, 1.0, 4.0])
    run = gradient_flow(network, theta, [[x]], [target], t, x_test=[[2 * x]])
    start = c * 0.6**2
    exact = target / (1 + (target / start - 1) * np.exp(-2 * c * target * t))
    # rtol = 1e-10 per step, over some twenty steps.
    assert_close(run.outputs[:, 0], exact, 1e-8)
    assert_close(run.outputs[:, 1], 2 * exact, 1e-8)


def test_flow_of_relu_conserves_the_balance_of_every_neuron():
    # Rescaling what enters a neuron against what leaves it is a symmetry: the squares
    # of its weights and bias, minus those of its weights ahead, do not change.
    # With this seed no neuron gets caught on a kink, where a flow needs endless steps.
    network = make(2, "relu", seed=7)

    def balances(theta):
        layers = network.layers(theta)
        for layer, ahead in pairwise(layers):
            into = (layer.weight**2).sum(dim=1) + layer.bias**2
            yield into - (ahead.weight**2).sum(dim=0)

    run = gradient_flow(network, network.params, X, Y, [3.0])
    moved = (run.params**2 - network.params**2).abs().max()
    assert moved > 0.1
    pairs = zip(balances(run.params), balances(network.params), strict=True)
    for after, before in pairs:
        # Kinks are crossed with an error of the tolerance 1e-10.
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-8)


@pytest.mark.parametrize("activation", ["erf", "gelu"])
def test_flow_is_the_equation_of_motion_of_order_zero(activation):
    network = make(2, activation)
    path = part_one.equation_of_motion(
        sum_of_squares(network), network.params, 0.25, steps=8, order=0
    )
    times = 0.25 * np.arange(9)
    run = gradient_flow(network, network.params, X, Y, times, x_test=X_TEST)
    # Both integrate to 1e-10 or better.
    assert_close(run.outputs, [everywhere(network, theta) for theta in path], 1e-8)
    assert_close(run.params, path[-1], 1e-8)
    losses = ((run.outputs[:, :4] - Y) ** 2).sum(axis=1)
    assert np.all(np.diff(losses) < 0)


def test_flow_is_the_limit_of_descents():
    network = make()
    flow = gradient_flow(network, network.params, X, Y, [2.0], x_test=X_TEST)
    ends = [
        gradient_descent(
            network, network.params, X, Y, 2 / s, s, x_test=X_TEST, snapshots=[s]
        ).outputs
        for s in (100, 200, 400)
    ]
    errors = [np.linalg.norm(end - flow.outputs) for end in ends]
    # First order in the step: ratios 2, up to terms of relative size of the step, 1 %.
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    # Its removal leaves the second order: ratio 4.
    better = [np.linalg.norm(2 * ends[i + 1] - ends[i] - flow.outputs) for i in (0, 1)]
    assert better[0] / better[1] == pytest.approx(4, rel=0.1)


def test_times_of_a_flow_may_be_any():
    network = make()
    arguments = (network, network.params, X, Y)
    times = [0.0, 0.001, 0.0011, 0.7, 1.5]
    whole = gradient_flow(*arguments, times)
    assert_close(whole.outputs[0], network(network.params, X).numpy())
    for row, time in zip(whole.outputs, times, strict=True):
        alone = gradient_flow(*arguments, time)
        # Dense output between steps is of order 7, as good as the steps here.
        assert_close(alone.outputs[0], row, 1e-8)
    still = gradient_flow(*arguments, [0.0])
    assert torch.equal(still.params, network.params)
    np.testing.assert_array_equal(still.outputs[0], whole.outputs[0])


def test_a_flow_caught_on_a_kink_is_told_and_does_not_hang(monkeypatch):
    # From this start one relu neuron is drawn to its kink from both sides; smooth
    # activations and most relu networks need fewer than 100 steps to the same time.
    monkeypatch.setattr(training, "MOST_STEPS", 300)
    starts = {"sigma_w": 1.3, "sigma_b": 0.4, "scale": 0.7}
    x, y = np.random.default_rng(0).normal(size=(4, 3)), [0.5, -1.0, 0.3, 0.8]
    caught = mlp(5, 2, "relu", 3, 0, **starts)
    message = r"stopped at time 1\.\d+: 300 steps do not reach 3.*kink"
    with pytest.raises(FloatingPointError, match=message):
        gradient_flow(caught, caught.params, x, y, [3.0])
    smooth = mlp(5, 2, "gelu", 3, 0, **starts)
    assert np.isfinite(gradient_flow(smooth, smooth.params, x, y, [3.0]).outputs).all()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_flows_that_overflow_are_told_and_do_not_hang(activation):
    # The first velocity is not finite: no first step could be found.
    network = make(depth=3, activation=activation)
    with pytest.raises(FloatingPointError, match="stopped at time 0: it is not finite"):
        gradient_flow(network, network.params * 1e120, X, Y, [1.0])


def test_targets_may_be_read_only():
    network, y = make(), np.array(Y)
    y.flags.writeable = False
    np.testing.assert_array_equal(
        gradient_descent(network, network.params, X, y, 0.1, 2).outputs,
        gradient_descent(network, network.params, X, Y, 0.1, 2).outputs,
    )


def test_tolerances_of_a_flow_are_used():
    network = make()
    arguments = (network, network.params, X, Y, [3.0])
    exact = gradient_flow(*arguments).outputs
    errors = [
        np.abs(gradient_flow(*arguments, **rough).outputs - exact).max()
        for rough in ({"rtol": 1e-3, "atol": 1e-3}, {"rtol": 1e-6, "atol": 1e-6})
    ]
    # A thousandth of the tolerance: at least a tenth of the error.
    assert 1e-9 < 10 * errors[1] < errors[0] < 1e-2


# --- single samples -----------------------------------------------------------------


@every_kind
def test_single_samples_take_the_steps_of_autograd(parametrization):
    network = make(2, "gelu", parametrization=parametrization)
    batches = [
        (X[j : j + 1], Y[j : j + 1] + epsilon)
        for j, epsilon in zip(SAMPLES, NOISE, strict=True)
    ]
    path = by_autograd(network, batches, 0.2)
    arguments = (network, network.params, X, Y, SAMPLES, 0.2)
    run = sgd(*arguments, noise=NOISE, x_test=X_TEST, snapshots=range(11))
    assert_close(run.outputs, [everywhere(network, theta) for theta in path])
    assert_close(run.params, path[-1])
    last = sgd(*arguments, noise=NOISE)
    np.testing.assert_array_equal(last.outputs, run.outputs[10:, :4])
    assert torch.equal(last.params, run.params)
    some = sgd(*arguments, noise=NOISE, snapshots=[0, 4, 10])
    np.testing.assert_array_equal(some.outputs, run.outputs[[0, 4, 10], :4])
    quiet = sgd(*arguments)
    assert torch.equal(quiet.params, sgd(*arguments, noise=np.zeros(10)).params)


def test_samples_of_one_point_are_full_batches():
    network = make()
    run = sgd(network, network.params, X[:1], Y[:1], [0] * 6, 0.2, snapshots=range(7))
    full = gradient_descent(network, network.params, X[:1], Y[:1], 0.2, 6)
    assert_close(run.outputs, full.outputs)
    assert_close(run.params, full.params)


def test_noise_on_labels_is_a_shift_of_targets():
    network = make()
    noisy = sgd(network, network.params, X, Y, SAMPLES, 0.2, noise=[0.3] * 10)
    shifted = sgd(network, network.params, X, Y + 0.3, SAMPLES, 0.2)
    assert_close(noisy.outputs, shifted.outputs)


# --- networks that are linear in their parameters -----------------------------------


def trained_ways(network, theta, x, y, eta, x_test):
    """Outputs of the three kinds of training, and those of the frozen kernel."""
    times, steps = [0.0, eta, 9 * eta], [0, 1, 9]
    K = empirical(network, theta, x).numpy()
    frozen = {"test_kernel": empirical(network, theta, x_test, x).numpy()}
    named, few = {"x_test": x_test}, {"snapshots": [0, 1, 9]}
    samples, noise = SAMPLES[:9], NOISE[:9]
    f0 = network(theta, np.concatenate([x, x_test])).numpy()
    arguments, linear = (network, theta, x, y), (K, y, f0)
    return {
        "descent": (
            gradient_descent(*arguments, eta, 9, **named, **few).outputs,
            linear_dynamics(*linear, steps=steps, learning_rate=eta, **frozen),
        ),
        "flow": (
            gradient_flow(*arguments, times, **named).outputs,
            linear_dynamics(*linear, times, **frozen),
        ),
        "sgd": (
            sgd(*arguments, samples, eta, noise=noise, **named, **few).outputs,
            linear_sgd(*linear, samples, eta, noise=noise, **few, **frozen),
        ),
    }


KINDS = ("descent", "flow", "sgd")


@pytest.mark.parametrize("kind", KINDS)
def test_networks_whose_neurons_are_off_train_as_their_frozen_kernel(kind):
    # With all hidden fields below 0 relu leaves the bias of the output alone.
    network = make(1, "relu")
    theta = network.params.clone()
    first, second = network.layers(theta)
    first.weight.copy_(-first.weight.abs())
    first.bias.fill_(-1)
    second.bias.fill_(3.0)
    x, x_test = np.abs(X), np.abs(X_TEST)
    K = empirical(network, theta, x).numpy()
    assert_close(K, np.full((4, 4), (0.7 * 0.4) ** 2))
    run, linear = trained_ways(network, theta, x, Y, 1.0, x_test)[kind]
    assert np.ptp(linear[:, 0]) > 0.1
    # The flow is integrated to 1e-10.
    assert_close(run, linear, 1e-8 if kind == "flow" else ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_large_scale_train_as_their_frozen_kernel(kind):
    # Chizat et al. (2019): the deviation is c / scale + O(1 / scale^2), with residuals
    # and eta K kept.
    deviations = []
    for scale in (200.0, 400.0):
        network = make(scale=scale)
        theta = network.params
        y = network(theta, X).numpy() - Y
        eta = 0.5 / float(torch.linalg.eigvalsh(empirical(network, theta, X))[-1])
        run, linear = trained_ways(network, theta, X, y, eta, X_TEST)[kind]
        np.testing.assert_allclose(run[0], linear[0], rtol=1e-13)
        deviations.append((run - linear)[1:] * scale)
    assert np.abs(deviations[0]).max() > 1e-2
    assert np.abs(linear[1:] - linear[0]).max() > 0.1
    assert_close(deviations[0], deviations[1], 0.03)


# --- networks side by side, copies, progress ----------------------------------------


def train(kind, network, theta, y=Y, **named):
    """One of the three kinds of training, with three snapshots."""
    if kind == "descent":
        snapshots = {"snapshots": [0, 3, 9]}
        return gradient_descent(network, theta, X, y, 0.1, 9, **snapshots, **named)
    if kind == "flow":
        return gradient_flow(network, theta, X, y, [0.0, 0.3, 0.9], **named)
    snapshots = {"snapshots": [0, 3, 9]}
    return sgd(network, theta, X, y, SAMPLES[:9], 0.1, **snapshots, **named)


every_training = pytest.mark.parametrize("kind", KINDS)


@every_training
@pytest.mark.parametrize("own_targets", [False, True])
def test_networks_side_by_side_train_as_alone(kind, own_targets):
    several = make(seed=[5, 6, 7])
    y = np.random.default_rng(3).normal(size=(3, 4)) if own_targets else Y
    whole = train(kind, several, several.params, y, x_test=X_TEST)
    assert whole.outputs.shape == (3, 3, 6)
    # Steps of an ensemble are chosen for all; each then has errors of 1e-10.
    tolerance = 1e-8 if kind == "flow" else ROUNDING
    for i, theta in enumerate(several.params):
        targets = y[i] if own_targets else y
        alone = train(kind, several, theta, targets, x_test=X_TEST)
        assert_close(whole.outputs[:, i], alone.outputs, tolerance)
        assert_close(whole.params[i], alone.params, tolerance)


@every_training
def test_callers_tensors_are_neither_changed_nor_returned(kind):
    network = make()
    theta = network.params.clone().requires_grad_(True)
    x, y, x_test = X.copy(), Y.copy(), torch.from_numpy(X_TEST.copy())
    run = train(kind, network, theta, y, x_test=x_test)
    assert torch.equal(theta, network.params)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(x_test, X_TEST)
    assert not run.params.requires_grad
    assert theta.grad is None


def test_runs_of_no_step_return_copies():
    network = make()
    before, arguments = network.params.clone(), (network, network.params, X, Y)
    for run in (
        gradient_descent(*arguments, 0.1, 0),
        gradient_flow(*arguments, [0.0]),
        sgd(*arguments, np.array([], dtype=int), 0.1),
    ):
        np.testing.assert_array_equal(run.outputs, [network(before, X).numpy()])
        run.params.fill_(7)
        assert torch.equal(network.params, before)


@every_training
def test_the_end_is_where_the_last_outputs_come_from(kind):
    network = make()
    run = train(kind, network, network.params, x_test=X_TEST)
    assert_close(everywhere(network, run.params), run.outputs[-1])


@pytest.mark.parametrize("kind", ["descent", "sgd"])
def test_single_precision_is_kept(kind):
    network = make()
    single = train(kind, network, network.params.float())
    assert single.params.dtype == torch.float32
    assert single.outputs.dtype == np.float64
    # 6e-8 per operation.
    expected = train(kind, network, network.params)
    assert_close(single.outputs, expected.outputs, 1e-5)


@pytest.mark.parametrize(
    ("kind", "title"), [("descent", "gradient descent"), ("sgd", "SGD")]
)
def test_progress_is_told(told, kind, title):
    network = make()
    train(kind, network, network.params)
    assert told == [(9, title), *[1] * 9]


# --- what is refused ----------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("kind", ["descent", "sgd"])
def test_divergence_names_the_step_and_both_learning_rates(kind, lead):
    network = make(1, "relu", [0, 1] if lead else 0)
    theta = network.params
    largest = float(torch.linalg.eigvalsh(empirical(network, theta, X)).max())
    numbers = (
        f"learning_rate is 1000, and 2 / (largest eigenvalue {largest:.4g} of the "
        f"first kernel) is {2 / largest:.4g}"
    )
    message = r"outputs are not finite at step (\d+): " + re.escape(numbers)

    def run(steps):
        if kind == "descent":
            return gradient_descent(network, theta, X, Y, 1e3, steps)
        samples = np.arange(steps) % 4
        return sgd(network, theta, X, Y, samples, 1e3, snapshots=range(steps + 1))

    with pytest.raises(FloatingPointError, match=message) as raised:
        run(200)
    step = int(re.match(message, str(raised.value))[1])
    assert step > 1
    # The step before was finite.
    assert np.isfinite(run(step - 1).outputs).all()
    if kind == "descent":
        # Also where nothing is recorded.
        with pytest.raises(FloatingPointError, match=f"not finite at step {step}: "):
            gradient_descent(network, theta, X, Y, 1e3, 200, snapshots=[200])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 5), st.integers(0, 5), st.floats(1e-3, 0.2))
def test_a_run_goes_on_where_another_ended(first, second, learning_rate):
    network = make()
    whole = gradient_descent(
        network, network.params, X, Y, learning_rate, first + second
    )
    before = gradient_descent(network, network.params, X, Y, learning_rate, first)
    after = gradient_descent(network, before.params, X, Y, learning_rate, second)
    np.testing.assert_array_equal(whole.outputs[: first + 1], before.outputs)
    np.testing.assert_array_equal(whole.outputs[first:], after.outputs)
    assert torch.equal(whole.params, after.params)


def test_flows_that_cannot_be_integrated_say_where(monkeypatch):
    network, calls = make(), []
    pulled_vector = training.pulled_vector

    def breaking(*arguments):
        calls.append(1)
        pulled = pulled_vector(*arguments)
        return pulled if len(calls) < 40 else pulled * math.nan

    monkeypatch.setattr(training, "pulled_vector", breaking)
    with pytest.raises(
        FloatingPointError, match=r"gradient flow stopped at time 0\.\d"
    ):
        gradient_flow(network, network.params, X, Y, [50.0])


BAD = [
    ("params", lambda p: p[1:], r"params must have shape \(..., 56\)"),
    ("x", X[:, :2], r"x must have shape \(n, 3\)"),
    ("x", X * np.nan, "x must be finite"),
    ("x_test", X_TEST[:, :2], r"x_test must have shape \(n, 3\)"),
    ("x_test", X_TEST * np.inf, "x_test must be finite"),
    ("y", Y[:3], r"y must be finite and have shape \(..., 4\) .*got \(3,\)"),
    ("y", Y * np.nan, "y must be finite"),
    ("params", lambda p: p * math.nan, "params must be finite"),
]
GOOD = {
    gradient_descent: {"learning_rate": 0.1, "steps": 2},
    gradient_flow: {"times": [1.0]},
    sgd: {"samples": [0, 1], "learning_rate": 0.1},
}
OWN = {
    gradient_descent: [
        ("learning_rate", 0.0, "learning_rate must be finite and > 0, got 0"),
        ("steps", -1, "steps must be an integer >= 0, got -1"),
        ("steps", 2.0, "steps must be an integer >= 0, got 2.0"),
        ("snapshots", [3], "snapshots must be increasing integers from 0 to 2"),
        ("snapshots", [1, 0], "snapshots must be increasing integers from 0 to 2"),
    ],
    gradient_flow: [
        ("times", [1.0, 0.5], "times must be >= 0 and increasing"),
        ("times", [-1.0], "times must be >= 0 and increasing"),
        ("rtol", 0.0, "rtol must be finite and > 0"),
        ("atol", -1.0, "atol must be finite and > 0"),
        ("params", lambda p: p.float(), "params must be float64, got torch.float32"),
    ],
    sgd: [
        ("learning_rate", math.inf, "learning_rate must be finite and > 0"),
        ("samples", [4], "samples must be indices from 0 to 3"),
        ("samples", [0.5], "samples must be indices"),
        ("noise", [0.1], r"noise must be finite and of the shape \(2,\)"),
        ("snapshots", [3], "snapshots must be increasing integers from 0 to 2"),
    ],
}


@pytest.mark.parametrize(
    ("function", "name", "bad", "message"),
    [(function, *bad) for function, own in OWN.items() for bad in (*BAD, *own)],
)
def test_problems_that_make_no_sense_are_refused(function, name, bad, message):
    network = make()
    good = {"params": network.params, "x": X, "y": Y, "x_test": X_TEST}
    good |= GOOD[function]
    function(network, **good)
    changed = bad(network.params) if callable(bad) else bad
    with pytest.raises(ValueError, match=message):
        function(network, **good | {name: changed})


@every_training
@pytest.mark.parametrize(
    ("seed", "shape"), [(0, (3, 4)), ([0, 1, 2], (2, 4)), ([0, 1], (3, 2, 4))]
)
def test_targets_of_other_networks_are_refused(kind, seed, shape):
    network = make(seed=seed)
    with pytest.raises(ValueError, match="y must "):
        train(kind, network, network.params, np.ones(shape))
