"""Networks against their equations written out, autograd, symmetries and exact moments.

By-hand networks cut the flat parameters with their own arithmetic and call torch's own
activations, so that a multiplier, an order of layers or a factor of the output that is
wrong in both passes of the package shows.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fpbook.networks import (
    ACTIVATIONS,
    PARAMETRIZATIONS,
    as_inputs,
    jacobian,
    mlp,
    pull_back,
    trace,
)

# A few hundred float64 operations on numbers of order one.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)

BY_TORCH = {
    "erf": torch.erf,
    "tanh": torch.tanh,
    "gelu": torch.nn.functional.gelu,
    "relu": torch.relu,
}


def by_hand(network, params, x):
    """Outputs by the equations of the module, for one network."""
    sizes = [network.input_dim, *[network.width] * network.depth, 1]
    a, used = x, 0
    for n_in, n_out in pairwise(sizes):
        W = params[used : used + n_in * n_out].reshape(n_out, n_in)
        used += n_in * n_out
        b = params[used : used + n_out]
        used += n_out
        if network.parametrization == "standard":
            h = a @ W.T + b
        else:
            h = network.sigma_w / math.sqrt(n_in) * a @ W.T + network.sigma_b * b
        a = BY_TORCH[network.activation](h)
    assert used == len(params)
    scale = network.scale
    if network.parametrization == "mean_field":
        scale /= math.sqrt(network.width)
    return scale * h[:, 0]


def make(depth=2, activation="erf", seed=0, parametrization="ntk", **options):
    settled = {"scale": 0.7, "sigma_w": 1.3, "sigma_b": 0.4} | options
    return mlp(5, depth, activation, 3, seed, parametrization, **settled)


def points(n=4, seed=0, dim=3):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, dim)))


def random_params(network, seed):
    """Parameters of no special distribution, biases included."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=tuple(network.params.shape)))


def assert_close(actual, expected, tolerance=ROUNDING):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


every_kind = pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_depth = pytest.mark.parametrize("depth", [1, 2, 3])


# --- forward and backward -----------------------------------------------------------


@every_kind
@every_activation
@every_depth
def test_outputs_and_gradients_are_those_of_the_equations(
    depth, activation, parametrization
):
    network = make(depth, activation, parametrization=parametrization)
    theta, x = random_params(network, 1), points()
    expected = by_hand(network, theta, x)
    assert_close(network(theta, x), expected)
    seen = trace(network, theta, x)
    assert_close(seen.outputs, expected)
    gradients = torch.autograd.functional.jacobian(
        lambda p: by_hand(network, p, x), theta
    )
    assert_close(jacobian(network, theta, x), gradients)
    residual = points(1, seed=2, dim=4)[0]
    assert_close(pull_back(network, theta, x, residual), residual @ gradients)


@every_activation
def test_derivatives_of_activations_are_those_of_autograd(activation):
    u = (torch.arange(-50, 51, dtype=torch.float64) / 10).requires_grad_()
    value = ACTIVATIONS[activation].function(u)
    assert_close(value.detach(), BY_TORCH[activation](u).detach())
    (slope,) = torch.autograd.grad(value.sum(), u)
    found = ACTIVATIONS[activation].derivative(u.detach())
    # 0 is among the points: there relu has the derivative 0, in torch as here.
    assert u[50] == 0
    assert_close(found, slope)


@every_depth
def test_a_trace_holds_what_enters_layers_and_the_slopes_of_what_leaves(depth):
    # A push on one neuron's field moves the output by delta: push it by its bias.
    network = make(depth)
    theta, x = random_params(network, 3), points()
    seen = trace(network, theta, x)
    assert [tuple(a.shape) for a in seen.inputs] == [(4, 3), *[(4, 5)] * depth]
    assert [tuple(d.shape) for d in seen.deltas] == [*[(4, 5)] * depth, (4, 1)]
    np.testing.assert_array_equal(seen.inputs[0], x)
    for number in range(depth):
        layer, h = seen.layers[number], 1e-6
        field = layer.weight_multiplier * seen.inputs[number] @ layer.weight.T
        field += layer.bias_multiplier * layer.bias
        assert_close(seen.inputs[number + 1], torch.erf(field))
        pushes = []
        for sign in (1, -1):
            pushed = theta.clone()
            network.layers(pushed)[number].bias[2] += sign * h / layer.bias_multiplier
            pushes.append(by_hand(network, pushed, x))
        slope = (pushes[0] - pushes[1]) / (2 * h)
        # Central differences of values of order one: 1e-16 / h and h^2.
        np.testing.assert_allclose(seen.deltas[number][:, 2], slope, atol=1e-9, rtol=0)
    np.testing.assert_array_equal(seen.deltas[-1], np.full((4, 1), 0.7))


@every_kind
def test_networks_side_by_side_are_networks_alone(parametrization):
    several = make(seed=[4, 9, 2], parametrization=parametrization)
    x, residual = points(), points(3, seed=5, dim=4)
    outputs = several(several.params, x)
    gradients = jacobian(several, several.params, x)
    pulled = pull_back(several, several.params, x, residual)
    assert outputs.shape == (3, 4)
    for row, seed in enumerate([4, 9, 2]):
        alone = make(seed=seed, parametrization=parametrization)
        assert_close(outputs[row], alone(alone.params, x))
        assert_close(gradients[row], jacobian(alone, alone.params, x))
        expected = pull_back(alone, alone.params, x, residual[row])
        assert_close(pulled[row], expected)
    # Further axes of residuals for one network, and one residual for all networks.
    alone = make(seed=4, parametrization=parametrization)
    wide = pull_back(alone, alone.params, x, residual)
    assert_close(wide, residual @ gradients[0])
    assert_close(
        pull_back(several, several.params, x, residual[0]), residual[0] @ gradients
    )


def test_layers_are_views_in_the_order_of_the_parameters():
    network = make(depth=2)
    theta = torch.arange(float(len(network.params)), dtype=torch.float64)
    layers = network.layers(theta)
    assert network.shapes == [(5, 3), (5, 5), (1, 5)]
    flat = [part.flatten() for layer in layers for part in (layer.weight, layer.bias)]
    np.testing.assert_array_equal(torch.cat(flat), theta)
    np.testing.assert_array_equal(layers[0].weight[1], [3, 4, 5])
    layers[2].bias[0] = -1
    assert theta[-1] == -1


def test_numbers_and_single_precision_are_taken_as_they_are():
    network, x = make(), points()
    np.testing.assert_array_equal(
        network(network.params, x.tolist()), network(network.params, x)
    )
    single = network(network.params.float(), x)
    assert single.dtype == torch.float32
    # Single precision keeps 6e-8 per operation.
    assert_close(single, network(network.params, x), 1e-5)
    assert jacobian(network, network.params.float(), x).dtype == torch.float32


# --- symmetries ---------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=seeds, stretch=st.floats(0.1, 10), depth=st.integers(1, 3))
def test_relu_is_homogeneous_in_inputs_and_in_every_layer(seed, stretch, depth):
    # Without biases F(c x) = c F(x), and each weight matrix enters once:
    # theta . grad F = (L + 1) F.
    network = make(depth, "relu", seed, sigma_b=0.0)
    theta, x = network.params, points(seed=seed)
    outputs = network(theta, x)
    # Terms of order ten that may cancel.
    close = {"rtol": 0, "atol": 100 * ROUNDING}
    stretched = network(theta, stretch * x)
    np.testing.assert_allclose(stretched, stretch * outputs, **close)
    euler = jacobian(network, theta, x) @ theta
    np.testing.assert_allclose(euler, (depth + 1) * outputs, **close)


@pytest.mark.parametrize("activation", ["erf", "tanh"])
def test_odd_activations_without_biases_make_odd_networks(activation):
    network = make(3, activation, sigma_b=0.0)
    x = points()
    assert_close(network(network.params, -x), -network(network.params, x))
    # Not so with biases.
    biased = make(3, activation)
    assert (biased(biased.params, -x) + biased(biased.params, x)).abs().min() > 1e-3


@every_kind
def test_neurons_may_be_renamed(parametrization):
    network = make(2, "gelu", parametrization=parametrization)
    theta, x = network.params.clone(), points()
    before = network(theta, x)
    order = [3, 0, 4, 1, 2]
    first, second, _ = network.layers(theta)
    first.weight[:] = first.weight[order]
    first.bias[:] = first.bias[order]
    second.weight[:] = second.weight[:, order]
    assert not torch.equal(theta, network.params)
    assert_close(network(theta, x), before)


# --- parametrisations ---------------------------------------------------------------


def test_parametrisations_are_one_function_of_rescaled_parameters():
    ntk, x = make(depth=2), points()
    standard = make(depth=2, parametrization="standard")
    mean_field = make(depth=2, parametrization="mean_field")
    theta = random_params(ntk, 6)
    # Layer by layer: weights times sigma_w / sqrt(n_in), biases times sigma_b.
    factors = torch.ones_like(theta)
    for layer, n_in in zip(ntk.layers(factors), (3, 5, 5), strict=True):
        layer.weight.fill_(1.3 / math.sqrt(n_in))
        layer.bias.fill_(0.4)
    outputs = ntk(theta, x)
    assert_close(standard(factors * theta, x), outputs)
    assert_close(mean_field(theta, x), outputs / math.sqrt(5))
    assert_close(
        jacobian(ntk, theta, x), factors * jacobian(standard, factors * theta, x)
    )
    assert ntk.output_scale == standard.output_scale == 0.7
    assert mean_field.output_scale == pytest.approx(0.7 / math.sqrt(5), rel=1e-15)


@every_kind
def test_parameters_start_normal_with_the_stated_deviations(parametrization):
    network = mlp(100, 2, "erf", 40, 0, parametrization, sigma_w=1.7, sigma_b=0.3)
    layers = network.layers(network.params)
    for layer, n_in in zip(layers, (40, 100, 100), strict=True):
        weight, bias = (1.7 / math.sqrt(n_in), 0.3), (1.0, 1.0)
        deviations = weight if parametrization == "standard" else bias
        for part, deviation in zip((layer.weight, layer.bias), deviations, strict=True):
            sample = part.numpy().ravel() / deviation
            assert stats.kstest(sample, "norm").pvalue > 1e-3
    assert network.params.dtype == torch.float64
    # Neighbours are uncorrelated: four standard errors 1 / sqrt(P).
    flat = torch.cat([p.flatten() for p in (layers[0].weight, layers[1].weight)])
    neighbours = np.corrcoef(flat[:-1], flat[1:])[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(len(flat))


@every_kind
def test_outputs_of_one_hidden_layer_have_the_exact_covariance(parametrization):
    # With S = sigma_w^2 x.x' / d + sigma_b^2 the average of erf(u) erf(v) is
    # 2 / pi asin(2 S / sqrt((1 + 2 S_xx) (1 + 2 S_yy))) (Williams, 1998), and
    # E F F' = alpha^2 (sigma_w^2 times it + sigma_b^2), at any width.
    several = make(1, seed=range(4000), parametrization=parametrization)
    x = points(2, seed=7)
    outputs = several(several.params, x).numpy()
    S = 1.3**2 / 3 * (x @ x.T).numpy() + 0.4**2
    norm = 1 + 2 * np.diag(S)
    average = 2 / np.pi * np.arcsin(2 * S / np.sqrt(np.outer(norm, norm)))
    expected = 0.7**2 * (1.3**2 * average + 0.4**2)
    if parametrization == "mean_field":
        expected /= 5
    for i, j in ((0, 0), (0, 1), (1, 1)):
        products = outputs[:, i] * outputs[:, j]
        error = products.std() / math.sqrt(len(products))
        assert abs(products.mean() - expected[i, j]) < 4 * error
        # An error of a few per cent: factors are told apart.
        assert error < 0.06 * expected[i, i]


def test_without_biases_none_act():
    network = make(sigma_b=0.0)
    changed = network.params.clone()
    for layer in network.layers(changed):
        layer.bias.add_(5)
    x = points()
    np.testing.assert_array_equal(network(changed, x), network(network.params, x))
    standard = make(parametrization="standard", sigma_b=0.0)
    assert all((layer.bias == 0).all() for layer in standard.layers(standard.params))


# --- seeds --------------------------------------------------------------------------


@every_kind
def test_a_seed_gives_one_network_and_a_sequence_gives_them_side_by_side(
    parametrization,
):
    alone = [make(seed=s, parametrization=parametrization).params for s in (3, 8, 3)]
    assert torch.equal(alone[0], alone[2])
    assert (alone[0] != alone[1]).all()
    many = make(seed=range(40), parametrization=parametrization).params
    assert len(torch.unique(many[:, 0])) == 40
    several = make(seed=(3, 8), parametrization=parametrization).params
    assert torch.equal(several, torch.stack(alone[:2]))
    assert make(seed=[3], parametrization=parametrization).params.shape[0] == 1
    from_numpy = make(seed=np.array([3, 8]), parametrization=parametrization).params
    assert torch.equal(from_numpy, several)
    single = make(seed=np.int64(8), parametrization=parametrization).params
    assert torch.equal(single, alone[1])


def test_the_global_generator_neither_matters_nor_moves():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = make().params
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(make().params, first)


# --- what is refused ----------------------------------------------------------------

GOOD = {
    "width": 4,
    "depth": 1,
    "activation": "erf",
    "input_dim": 2,
    "seed": 0,
    "parametrization": "ntk",
    "scale": 1.0,
    "sigma_w": 1.0,
    "sigma_b": 0.0,
}


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("width", 0, "width must be an integer >= 1, got 0"),
        ("width", 4.0, "width must be an integer >= 1, got 4.0"),
        ("depth", 0, "depth must be an integer >= 1, got 0"),
        ("input_dim", 0, "input_dim must be an integer >= 1, got 0"),
        ("activation", "sine", r"activation must be one of \('erf', .*got 'sine'"),
        ("parametrization", "muP", r"parametrization must be one of .*got 'muP'"),
        ("scale", 0.0, "scale must be finite and > 0, got 0"),
        ("sigma_w", math.inf, "sigma_w must be finite and > 0, got inf"),
        ("sigma_b", -1.0, "sigma_b must be finite and >= 0, got -1"),
        ("seed", -1, "seed must be an integer from 0 to .*, got -1"),
        ("seed", [0, -1], "seed must be an integer from 0 to .*, got -1"),
        ("seed", [], "seed must be an integer or at least one of them, got none"),
        ("seed", [1.5], "seed must be an integer from 0 to .*, got 1.5"),
        ("seed", 1.5, "seed must be .*got 1.5"),
        ("seed", None, "seed must be .*got None"),
    ],
)
def test_networks_that_make_no_sense_are_refused(name, bad, message):
    mlp(**GOOD)
    with pytest.raises(ValueError, match=message):
        mlp(**GOOD | {name: bad})


def test_shapes_that_do_not_fit_are_refused():
    network, x = make(), points()
    theta = network.params
    residual = torch.ones(4, dtype=torch.float64)
    calls = (
        network,
        lambda p, y: trace(network, p, y),
        lambda p, y: jacobian(network, p, y),
        lambda p, y: pull_back(network, p, y, residual),
    )
    for call in calls:
        for bad in (theta[1:], theta[:0], theta[0]):
            message = r"params must have shape \(..., 56\) for this network, got \("
            with pytest.raises(ValueError, match=message):
                call(bad, x)
        for bad in (x[:, :2], x[0], x[:0], x[None]):
            message = r"x must have shape \(n, 3\) with n >= 1, got \("
            with pytest.raises(ValueError, match=message):
                call(theta, bad)
    with pytest.raises(ValueError, match=r"residual must .*\(..., 4\) for 4 points x"):
        pull_back(network, theta, x, residual[:3])
    with pytest.raises(ValueError, match=r"params must have shape \(..., 56\)"):
        network.layers(theta[:-1])


def test_inputs_are_turned_into_tensors_or_refused():
    network = make()
    taken = as_inputs(network, network.params, [[1, 2, 3]])
    assert taken.dtype == torch.float64
    assert taken.shape == (1, 3)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="x must be finite, of a size up to 1e"):
            as_inputs(network, network.params, [[1, 2, bad]])
    with pytest.raises(ValueError, match=r"x must have shape \(n, 3\)"):
        as_inputs(network, network.params, [[1, 2]])


def test_seeds_that_torch_cannot_tell_apart_are_refused():
    for seed in (2**32, [0, 2**32], 2**64):
        with pytest.raises(ValueError, match="seed must be an integer from 0 to"):
            mlp(2, 1, "erf", 1, seed)
    last = mlp(2, 1, "erf", 1, 2**32 - 1).params
    assert not torch.equal(last, mlp(2, 1, "erf", 1, 2**32 - 2).params)


@pytest.mark.parametrize("kind", ["numpy", "integers", "half"])
def test_parameters_of_another_kind_are_named(kind):
    network = mlp(2, 1, "erf", 1, 0)
    wrong = {
        "numpy": network.params.numpy(),
        "integers": network.params.long(),
        "half": network.params.half(),
    }[kind]
    with pytest.raises(ValueError, match="params must be a float32 or float64 tensor"):
        network(wrong, [[1.0]])


def test_inputs_may_be_lists_and_views():
    network = mlp(4, 1, "erf", 2, 0)
    x = np.arange(6.0).reshape(3, 2)
    expected = network(network.params, torch.from_numpy(x))
    x.flags.writeable = False
    for same in (x, x.tolist(), x[::-1][::-1]):
        assert torch.equal(network(network.params, same), expected)
