r"""Fully connected networks with one output, in the parametrisations of the theory.

With the input :math:`a^0 = x`, ``depth`` :math:`L` and an activation :math:`\varphi`,

.. math::
    h^{l+1} = m_l\, W^l a^l + c_l\, b^l \quad (l = 0 .. L), \qquad
    a^{l} = \varphi(h^{l}) \quad (l = 1 .. L), \qquad
    F(\theta; x) = \alpha\, h^{L+1} .

All hidden layers have the ``width`` :math:`n`; layer :math:`l` has :math:`n_l` inputs.
The parametrisations differ in multipliers and in what is drawn at the start:

- ``ntk``: :math:`m_l = \sigma_w / \sqrt{n_l}`, :math:`c_l = \sigma_b`; all parameters
  are standard normal, and :math:`\alpha` is ``scale``.
- ``mean_field``: the same with :math:`\alpha` = ``scale`` :math:`/ \sqrt n`.
- ``standard``: :math:`m_l = c_l = 1`; weights have the standard deviation
  :math:`\sigma_w / \sqrt{n_l}`, biases :math:`\sigma_b`; :math:`\alpha` is ``scale``.

All parameters of a network are one flat vector :math:`\theta` of shape (P,), layer by
layer, weights before biases. A leading axis, shape (S, P), stands for S networks side
by side, here and in the modules that use these networks.

Source: Jacot, Gabriel and Hongler (2018) for ``ntk``, Mei, Montanari and Nguyen (2018)
for ``mean_field``; introduced in the chapter *The tangent kernel and linear training*.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fpbook.memory import require_memory
from fpbook.validation import (
    LARGEST,
    require_choice,
    require_integer,
    require_integer_between,
    require_non_negative,
    require_positive,
    require_real,
    require_type,
)

Parametrization = Literal["ntk", "mean_field", "standard"]
PRECISIONS = (torch.float32, torch.float64)
PARAMETRIZATIONS = ("ntk", "mean_field", "standard")

# --- activations --------------------------------------------------------------------


class Activation(NamedTuple):
    """An activation and its first derivative, both elementwise on tensors."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


def _normal_cdf(u: Tensor) -> Tensor:
    below: Tensor = (1 + torch.special.erf(u / math.sqrt(2))) / 2
    return below


def _normal_pdf(u: Tensor) -> Tensor:
    return torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)


ACTIVATIONS = {
    "erf": Activation(
        torch.special.erf, lambda u: 2 / math.sqrt(math.pi) * torch.exp(-(u**2))
    ),
    "tanh": Activation(torch.tanh, lambda u: 1 - torch.tanh(u) ** 2),
    "gelu": Activation(
        lambda u: u * _normal_cdf(u), lambda u: _normal_cdf(u) + u * _normal_pdf(u)
    ),
    "relu": Activation(torch.relu, lambda u: (u > 0).to(u.dtype)),
}
"""By name; the derivative of relu at 0 is 0."""

# --- networks -----------------------------------------------------------------------


class Layer(NamedTuple):
    """Parameters of one layer as views of the flat vector, and their multipliers.

    Attributes
    ----------
    weight, bias
        :math:`W^l` and :math:`b^l`, shapes (..., n_out, n_in) and (..., n_out).
    weight_multiplier, bias_multiplier
        :math:`m_l` and :math:`c_l`.
    """

    weight: Tensor
    bias: Tensor
    weight_multiplier: float
    bias_multiplier: float


@dataclass(frozen=True, eq=False)
class Network:
    r"""A network as :func:`mlp` makes it: what it is, and its parameters at the start.

    Attributes
    ----------
    width, depth, input_dim
        Neurons per hidden layer, number of hidden layers, size of an input.
    activation, parametrization
        Their names.
    scale
        :math:`\alpha` without the factor of the mean-field parametrisation.
    sigma_w, sigma_b
        Standard deviations, see the module's docstring.
    params
        Parameters at the start, float64, shape (P,), or (S, P) for S networks.
    """

    width: int
    depth: int
    input_dim: int
    activation: str
    parametrization: Parametrization
    scale: float
    sigma_w: float
    sigma_b: float
    params: Tensor

    @property
    def output_scale(self) -> float:
        r"""The factor :math:`\alpha` in front of the last layer."""
        mean_field = self.parametrization == "mean_field"
        return self.scale / math.sqrt(self.width) if mean_field else self.scale

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes (n_out, n_in) of the weights, from the input on."""
        sizes = [self.input_dim, *[self.width] * self.depth, 1]
        return [(n_out, n_in) for n_in, n_out in pairwise(sizes)]

    def layers(self, params: Tensor) -> list[Layer]:
        """Split flat parameters, shape (..., P), into views of the L + 1 layers.

        Parameters
        ----------
        params
            Parameters, float32 or float64, shape (..., P).

        Returns
        -------
        list
            The L + 1 layers, from the input on. Numbers that are not finite are passed
            on, since training calls this at every step.

        Raises
        ------
        ValueError
            If the last axis of ``params`` does not have length P.
        """
        if not isinstance(params, Tensor) or params.dtype not in PRECISIONS:
            kind = getattr(params, "dtype", type(params).__name__)
            raise ValueError(f"params must be a float32 or float64 tensor, got {kind}")
        count = sum(n_out * (n_in + 1) for n_out, n_in in self.shapes)
        if params.shape[-1:] != (count,):
            raise ValueError(
                f"params must have shape (..., {count}) for this network, got "
                f"{tuple(params.shape)}"
            )
        found, start = [], 0
        for n_out, n_in in self.shapes:
            middle, stop = start + n_out * n_in, start + n_out * (n_in + 1)
            weight = params[..., start:middle].unflatten(-1, (n_out, n_in))
            multipliers = (1.0, 1.0)
            if self.parametrization != "standard":
                multipliers = (self.sigma_w / math.sqrt(n_in), self.sigma_b)
            found.append(Layer(weight, params[..., middle:stop], *multipliers))
            start = stop
        return found

    def __call__(self, params: Tensor, x: ArrayLike | Tensor) -> Tensor:
        """Outputs :math:`F` for inputs (n, input_dim): shape (n,), or (S, n)."""
        *_, field = _forward(self, self.layers(params), _shaped(self, params, x))[1]
        return self.output_scale * field[..., 0]


LARGEST_SEED = 2**32 - 1


def mlp(
    width: int,
    depth: int,
    activation: str,
    input_dim: int,
    seed: int | Sequence[int],
    parametrization: Parametrization = "ntk",
    scale: float = 1.0,
    sigma_w: float = 1.0,
    sigma_b: float = 0.0,
    device: torch.device | str = "cpu",
) -> Network:
    """Draw a fully connected network with one output, or several of them.

    The equations are those of the module's docstring.

    Parameters
    ----------
    width
        Neurons per hidden layer, :math:`n` >= 1.
    depth
        Hidden layers, :math:`L` >= 1.
    activation
        ``"erf"``, ``"tanh"``, ``"gelu"`` (exact) or ``"relu"``.
    input_dim
        Size of an input, >= 1.
    seed
        Seed of the parameters, from 0 to 2^32 - 1, as torch reads no more bits; a
        sequence of S seeds draws S networks.
    parametrization
        ``"ntk"``, ``"mean_field"`` or ``"standard"``.
    scale
        Factor of the output, > 0.
    sigma_w, sigma_b
        Standard deviations that the weights and biases of a layer stand for, > 0 and
        >= 0.
    device
        Where the parameters live, such as ``"cuda"``; what is computed from them
        follows. They are drawn on the CPU, the same numbers for every device.

    Returns
    -------
    Network
        Called as ``network(params, x)`` it returns outputs; ``network.params`` are the
        float64 parameters that were drawn, shape (P,), or (S, P).

    Raises
    ------
    ValueError
        If an argument is out of range or an activation or parametrisation unknown.
    MemoryError
        If the parameters do not fit into the memory that is available.

    Examples
    --------
    >>> network = mlp(64, 2, "erf", input_dim=3, seed=0)
    >>> network(network.params, torch.ones(5, 3)).shape
    torch.Size([5])
    """
    require_integer(1, width=width, depth=depth, input_dim=input_dim)
    require_choice(tuple(ACTIVATIONS), activation=activation)
    require_choice(PARAMETRIZATIONS, parametrization=parametrization)
    require_positive(scale=scale, sigma_w=sigma_w)
    require_non_negative(sigma_b=sigma_b)
    place = _device(device)
    single = not isinstance(seed, Iterable)
    seeds = list(seed) if isinstance(seed, Iterable) else [seed]
    if not seeds:
        raise ValueError("seed must be an integer or at least one of them, got none")
    for one in seeds:
        require_integer_between(0, LARGEST_SEED, seed=one)
    empty = torch.empty(0, device="cpu")
    kind = (activation, parametrization, scale, sigma_w, sigma_b)
    blank = Network(width, depth, input_dim, *kind, empty)
    # Not from the list of shapes, which may itself not fit.
    count = width * (input_dim + 1) + (depth - 1) * width * (width + 1) + width + 1
    require_memory(8 * len(seeds) * count, "the parameters")
    params = torch.empty(len(seeds), count, dtype=torch.float64, device="cpu")
    for row, one in zip(params, seeds, strict=True):
        row.normal_(generator=torch.Generator().manual_seed(int(one)))
    if parametrization == "standard":
        for layer in blank.layers(params):
            layer.weight.mul_(sigma_w / math.sqrt(layer.weight.shape[-1]))
            layer.bias.mul_(sigma_b)
    theta = (params[0] if single else params).to(place)
    return Network(width, depth, input_dim, *kind, theta)


def _device(device: torch.device | str) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as problem:
        raise ValueError(
            f'device must be one of torch, such as "cpu", got {device!r}'
        ) from problem


# --- forward and backward -----------------------------------------------------------


class Trace(NamedTuple):
    r"""What one forward and one backward pass leave, for n inputs.

    Attributes
    ----------
    layers
        The L + 1 layers.
    inputs
        What enters them, :math:`a^l`, shapes (..., n, n_l) for l = 0 .. L.
    deltas
        :math:`\delta^{l} = \partial F / \partial h^{l+1}`, shapes (..., n, n_{l+1}).
    outputs
        :math:`F`, shape (..., n).
    """

    layers: list[Layer]
    inputs: list[Tensor]
    deltas: list[Tensor]
    outputs: Tensor


def trace(network: Network, params: Tensor, x: ArrayLike | Tensor) -> Trace:
    r"""Run a network forward and backward and keep what both passes see.

    .. math:: \delta^L = \alpha, \qquad
        \delta^{l-1} = m_l\, \varphi'(h^l) \circ (W^l)^T \delta^l

    The gradient of an output is then of rank one in every layer:
    :math:`\partial F / \partial W^l = m_l\, \delta^l (a^l)^T` and
    :math:`\partial F / \partial b^l = c_l\, \delta^l`. Source: derived in the chapter
    *The tangent kernel and linear training*.

    Parameters
    ----------
    network
        The network.
    params
        Parameters, shape (..., P).
    x
        Inputs, shape (n, input_dim).

    Returns
    -------
    Trace
        Layers, inputs, deltas and outputs, of the type of ``params``. Numbers that are
        not finite are passed on, since training calls this at every step.

    Raises
    ------
    ValueError
        If a shape does not fit.
    TypeError
        If ``network`` is none.
    """
    require_type(Network, network=network)
    layers = network.layers(params)
    inputs, fields = _forward(network, layers, _shaped(network, params, x))
    derivative = ACTIVATIONS[network.activation].derivative
    deltas = [torch.full_like(fields[-1], network.output_scale)]
    for layer, field in zip(layers[:0:-1], fields[-2::-1], strict=True):
        pulled = layer.weight_multiplier * (deltas[-1] @ layer.weight)
        deltas.append(pulled * derivative(field))
    outputs = network.output_scale * fields[-1][..., 0]
    return Trace(layers, inputs, deltas[::-1], outputs)


def _forward(
    network: Network, layers: list[Layer], x: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return what enters each layer, and the fields that leave it."""
    function = ACTIVATIONS[network.activation].function
    inputs, fields = [x], list[Tensor]()
    for number, (weight, bias, m, c) in enumerate(layers):
        if number:
            inputs.append(function(fields[-1]))
        fields.append(m * (inputs[-1] @ weight.mT) + c * bias[..., None, :])
    return inputs, fields


def as_tensor_of(
    params: Tensor, values: ArrayLike | Tensor, name: str = "values"
) -> Tensor:
    """Turn numbers into a tensor like the parameters; arrays are copied.

    Raises
    ------
    ValueError
        If they are not real numbers.
    """
    if not isinstance(values, Tensor):
        return torch.from_numpy(np.array(require_real(name, values))).to(params)
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be real numbers, got {values.dtype}")
    return values.to(params)


def _shaped(
    network: Network, params: Tensor, x: ArrayLike | Tensor, name: str = "x"
) -> Tensor:
    points = as_tensor_of(params, x, name)
    if points.dim() != 2 or points.shape[1] != network.input_dim or not len(points):
        raise ValueError(
            f"{name} must have shape (n, {network.input_dim}) with n >= 1, got "
            f"{tuple(points.shape)}"
        )
    return points


def as_inputs(
    network: Network, params: Tensor, x: ArrayLike | Tensor, name: str = "x"
) -> Tensor:
    """Turn inputs into a tensor of the type of the parameters, shape (n, input_dim).

    Raises
    ------
    ValueError
        If the shape is another, or an input or a parameter is not finite.
    TypeError
        If ``network`` is none.
    """
    require_type(Network, network=network)
    network.layers(params)  # refuses params of another network
    points = _shaped(network, params, x, name).detach()
    # Not in _shaped: under torch.func no value can decide.
    for kind, values in (("params", params), (name, points)):
        if not (values.abs() <= LARGEST).all():
            raise ValueError(
                f"{kind} must be finite, of a size up to {LARGEST:g}, got NaN, "
                "infinity or more"
            )
    return points


def pull_back(
    network: Network,
    params: Tensor,
    x: ArrayLike | Tensor,
    residual: ArrayLike | Tensor,
) -> Tensor:
    r"""Direction :math:`J^T r = \sum_j r_j\, \nabla F(\theta; x_j)` in weight space.

    Source: the chain rule, with the rank-one gradients of :func:`trace`.

    Parameters
    ----------
    network, params
        The network and its parameters, shape (..., P).
    x
        Inputs, shape (n, input_dim).
    residual
        :math:`r`, shape (..., n).

    Returns
    -------
    Tensor
        Shape (..., P).

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    seen = trace(network, params, as_inputs(network, params, x))
    return pulled_vector(seen, as_residual(params, seen.outputs.shape[-1], residual))


def pulled_vector(seen: Trace, residual: Tensor) -> Tensor:
    """``J^T r`` as one vector, shape (..., P), from passes that were made before."""
    pieces = []
    pulled = pulled_layers(seen, residual)
    for layer, (weight, bias) in zip(seen.layers, pulled, strict=True):
        pieces.append((layer.weight_multiplier * weight).flatten(-2))
        pieces.append(layer.bias_multiplier * bias)
    return torch.cat(pieces, dim=-1)


def pulled_layers(seen: Trace, residual: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """``J^T r``, layer by layer, without the multipliers of weights and biases."""
    for a, delta in zip(seen.inputs, seen.deltas, strict=True):
        weighted = residual[..., None] * delta
        yield weighted.mT @ a, weighted.sum(-2)


def as_residual(
    params: Tensor, count: int, residual: ArrayLike | Tensor, inputs: str = "x"
) -> Tensor:
    """Turn a residual into a tensor of the type of the parameters, shape (..., count).

    Raises
    ------
    ValueError
        If it is not finite, or its shape fits neither ``count`` points nor the leading
        axes of ``params``.
    """
    r = as_tensor_of(params, residual, "residual")
    stack = params.shape[:-1]
    fits = r.shape[-1:] == (count,) and (not stack or r.shape[:-1] in ((), stack))
    if not fits or not (r.abs() <= LARGEST).all():
        raise ValueError(
            "residual must be finite, with the leading axes of params if it has any, "
            f"and of shape (..., {count}) for {count} points {inputs}, got "
            f"{tuple(r.shape)}"
        )
    return r


def jacobian(network: Network, params: Tensor, x: ArrayLike | Tensor) -> Tensor:
    r"""Gradients of the outputs, :math:`J_{jp} = \partial F(x_j) / \partial\theta_p`.

    Source: the chain rule, with the rank-one gradients of :func:`trace`.

    Parameters
    ----------
    network, params
        The network and its parameters, shape (..., P).
    x
        Inputs, shape (n, input_dim).

    Returns
    -------
    Tensor
        Shape (..., n, P).

    Raises
    ------
    ValueError
        If a shape does not fit.
    MemoryError
        If the gradients do not fit into the memory that is available.
    """
    points = as_inputs(network, params, x)
    size = 2 * len(points) * params.numel() * params.element_size()
    require_memory(size, "the Jacobian")
    seen = trace(network, params, points)
    pieces = []
    for layer, a, delta in zip(seen.layers, seen.inputs, seen.deltas, strict=True):
        outer = layer.weight_multiplier * delta[..., :, None] * a[..., None, :]
        pieces.append(outer.flatten(-2))
        pieces.append(layer.bias_multiplier * delta)
    return torch.cat(pieces, dim=-1)
