r"""Gradient descent as a flow: the counter term and the Equation of Motion.

Gradient descent moves in steps, ``theta <- theta + learning_rate * f(theta)`` with
``f = -grad L``. The flow of a *modified* field that reaches the same points at the
times ``t = learning_rate * step`` is the **Equation of Motion** (EoM)

.. math:: \dot\theta = F_p(\theta) = \sum_{j=0}^{p} \eta^j f_j(\theta), \qquad f_0 = f .

``f_1, f_2, ...`` are the counter terms; they solve ``exp(eta D_F) id = id + eta f``
as a power series in the learning rate ``eta`` (``D_F`` is the derivative along
``F``). The *order* ``p`` counts the counter terms that are kept: order 0 is gradient
flow, order 1 is implicit gradient regularisation.

Every ``f_j`` is a sum over rooted trees with ``j + 1`` nodes. A tree stands for an
elementary differential of ``f``: a leaf is ``f``, a node with children
``tau_1 .. tau_k`` is ``f^(k)(F(tau_1), .., F(tau_k))``. A tree is written here as
the tuple of its children, so ``()`` is ``f``, ``((),)`` is ``f'f`` and ``((), ())``
is ``f''(f, f)``.

Losses are callables on one flat float64 tensor of shape (P,), returning a scalar.
Weight decay belongs inside the loss. Time is ``learning_rate * step`` everywhere.

The idea of a counter term and of the EoM is that of Miyagawa (2022); the formulas
are derived in the chapter *What does gradient descent follow?*
"""

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import DOP853
from torch import Tensor

from fpbook import progress
from fpbook.validation import (
    require_callable,
    require_integer,
    require_positive,
    require_type,
)

Loss = Callable[[Tensor], Tensor]
Tree = tuple["Tree", ...]

STEPS_PER_TIME = 100
"""Steps of the integrator per reported time before a field counts as not smooth."""

HIGHEST_ORDER = 12
"""Of counter terms; the number of trees, and the time, grow threefold with each."""

# Fused layers of torch, and the first counter term that comes out wrong with them:
# the third derivatives of the first two and the second of the last are wrong.
WRONG_COUNTER_TERM = {"batch_norm": 2, "layer_norm": 2, "weight_norm": 1}


def flat_loss(
    module: torch.nn.Module,
    inputs: Tensor,
    targets: Tensor,
    criterion: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Loss, Tensor]:
    """Turn a network, its data and a criterion into a loss of one flat vector.

    Parameters
    ----------
    module
        Any ``torch.nn.Module``; it is copied and left as it was.
    inputs
        What the module is called with, shape (n, ...). Floating-point inputs are
        converted to float64.
    targets
        Second argument of the criterion, shape as the criterion wants it.
    criterion
        ``criterion(outputs, targets)`` returns a scalar, for example
        ``torch.nn.functional.cross_entropy``.

    Returns
    -------
    loss : Loss
        Full-batch loss of a flat float64 vector of shape (P,).
    theta0 : Tensor
        The module's parameters in the order of ``module.parameters()``, shape (P,).

    Raises
    ------
    ValueError
        If the module has no parameters, or inputs or targets are not finite.
    TypeError
        If an argument is none of these.
    """
    require_type(torch.nn.Module, module=module)
    require_type(Tensor, inputs=inputs, targets=targets)
    require_callable(criterion=criterion)
    for name, values in (("inputs", inputs), ("targets", targets)):
        if values.is_complex() or not torch.isfinite(values).all():
            raise ValueError(f"{name} must be real and finite, got {values}")
        if not values.numel():
            raise ValueError(f"{name} must not be empty, got {tuple(values.shape)}")
    network = copy.deepcopy(module).double()
    parameters = dict(network.named_parameters())
    if not parameters:
        raise ValueError("module has no parameters; need at least one")
    shapes = [parameter.shape for parameter in parameters.values()]
    sizes = [parameter.numel() for parameter in parameters.values()]
    # Looking for shared parameters takes a quarter of the time of a small network.
    shared = len(list(network.named_parameters(remove_duplicate=False))) > len(sizes)
    exact_inputs = _as_float64(inputs)
    exact_targets = _as_float64(targets)

    def loss(theta: Tensor) -> Tensor:
        pieces = theta.split(sizes)
        named = {
            name: piece.view(shape)
            for name, piece, shape in zip(parameters, pieces, shapes, strict=True)
        }
        outputs = torch.func.functional_call(
            network, named, (exact_inputs,), tie_weights=shared
        )
        return criterion(outputs, exact_targets)

    start = torch.cat([p.detach().reshape(-1) for p in parameters.values()])
    return loss, start


def _as_float64(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values


def gradient_descent(
    loss: Loss, theta0: Tensor, learning_rate: float, steps: int
) -> Tensor:
    """Iterate ``theta <- theta - learning_rate * grad loss(theta)``.

    Parameters
    ----------
    loss
        Smooth function of one flat float64 vector of shape (P,), returning a scalar.
    theta0
        Start, shape (P,).
    learning_rate
        Step length, > 0. Step k is training time ``k * learning_rate``.
    steps
        Number of steps, >= 0.

    Returns
    -------
    Tensor
        All iterates, shape (steps + 1, P); row 0 is ``theta0``.

    Raises
    ------
    ValueError
        If ``theta0`` is not a flat float64 vector, ``loss`` does not return a float64
        scalar or not the same one twice, ``learning_rate`` <= 0 or ``steps`` < 0.
    TypeError
        If ``loss`` is no function.
    FloatingPointError
        If an iterate is not finite; names the step.
    """
    _check_problem(loss, theta0)
    require_positive(learning_rate=learning_rate)
    require_integer(0, steps=steps)
    _check_deterministic(loss, theta0)
    iterates = theta0.new_empty(steps + 1, theta0.numel())
    iterates[0] = theta0.detach()
    with progress.bar(steps, "gradient descent") as bar:
        for step in range(1, steps + 1):
            previous = iterates[step - 1]
            iterates[step] = previous - learning_rate * _gradient(loss, previous)
            if not torch.isfinite(iterates[step]).all():
                raise FloatingPointError(
                    f"gradient descent is not finite at step {step} "
                    f"(learning_rate = {learning_rate})"
                )
            bar.update(1)
    return iterates


def _check_problem(loss: Loss, theta: Tensor, name: str = "theta0") -> None:
    require_callable(loss=loss)
    if not isinstance(theta, Tensor):
        raise ValueError(
            f"{name} must be a torch tensor of shape (P,), got {type(theta).__name__}"
        )
    if theta.dim() != 1 or theta.numel() == 0:
        raise ValueError(
            f"{name} must have shape (P,) with P >= 1, got {tuple(theta.shape)}"
        )
    if theta.dtype != torch.float64:
        raise ValueError(f"{name} must be float64, got {theta.dtype}")
    if not torch.isfinite(theta).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    with torch.enable_grad():
        value = loss(theta.detach().clone().requires_grad_(True))
    if not isinstance(value, Tensor) or value.dim() != 0:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value)
        raise ValueError(f"loss must return a scalar tensor of shape (), got {shape}")
    if value.dtype != torch.float64:
        raise ValueError(f"loss must return float64, got {value.dtype}")
    if not value.requires_grad:
        raise ValueError(
            "loss must depend on theta through differentiable torch operations, "
            "got a value without a gradient"
        )
    if torch.isnan(value):
        raise ValueError(f"loss must be a number at {name}, got {float(value)}")


def _check_deterministic(loss: Loss, theta: Tensor) -> None:
    """Refuse a loss with dropout or new batches: no flow could be integrated."""
    with torch.enable_grad():
        values = [loss(theta.detach().clone().requires_grad_(True)) for _ in range(2)]
    first, second = (float(value.detach()) for value in values)
    if math.isfinite(first) and not math.isclose(first, second, rel_tol=1e-9):
        raise ValueError(
            f"loss must give the same value twice, got {first} and {second}: switch "
            "dropout off and use the full batch"
        )


def _check_order(order: int, highest: int = HIGHEST_ORDER) -> None:
    require_integer(0, order=order)
    if order > highest:
        raise ValueError(f"order must be at most {highest}, got {order}")


def _gradient(loss: Loss, theta: Tensor) -> Tensor:
    with torch.enable_grad():
        position = theta.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(position), position)
    return gradient


def counter_term_trees(order: int) -> dict[Tree, Fraction]:
    r"""Give the exact coefficients of the counter term ``f_order``, tree by tree.

    ``f_order = sum of coefficient * elementary differential`` over the rooted trees
    with ``order + 1`` nodes. With ``D_k`` the derivative along ``f_k``, collecting
    the power ``eta^(order+1)`` of ``exp(eta D_F) id = id + eta f`` gives

    .. math:: f_j = -\sum_{i=2}^{j+1} \frac{1}{i!}
              \sum_{k_1+\dots+k_i=j+1-i} D_{k_1} \cdots D_{k_{i-1}} f_{k_i} .

    Parameters
    ----------
    order
        Which counter term, from 0 to 12; 0 is the field ``f`` itself.

    Returns
    -------
    dict of Tree to Fraction
        Every rooted tree with ``order + 1`` nodes, zero coefficients included. A
        tree is the tuple of its children, smallest first.

    Raises
    ------
    ValueError
        If ``order`` is not an integer from 0 to 12.

    Notes
    -----
    Source: recursion derived in the chapter *What does gradient descent follow?*

    Examples
    --------
    >>> counter_term_trees(1)
    {((),): Fraction(-1, 2)}
    """
    _check_order(order)
    return dict(_counter_term(order))


@cache
def _counter_term(order: int) -> Mapping[Tree, Fraction]:
    if order == 0:
        return {(): Fraction(1)}
    total: defaultdict[Tree, Fraction] = defaultdict(Fraction)
    for derivatives in range(2, order + 2):
        weight = Fraction(1, math.factorial(derivatives))
        for tree, coefficient in _power_of_field(derivatives, order + 1).items():
            total[tree] -= weight * coefficient
    return dict(total)


@cache
def _power_of_field(derivatives: int, power: int) -> Mapping[Tree, Fraction]:
    """Coefficient of ``eta^power`` in ``(eta D_F)^derivatives id``."""
    if derivatives == 1:
        return _counter_term(power - 1)
    total: defaultdict[Tree, Fraction] = defaultdict(Fraction)
    for k in range(power - derivatives + 1):
        inner = _power_of_field(derivatives - 1, power - 1 - k)
        for branch, along in _counter_term(k).items():
            for tree, coefficient in inner.items():
                for grown in _grafts(tree, branch):
                    total[grown] += along * coefficient
    return total


def _grafts(tree: Tree, branch: Tree) -> Iterator[Tree]:
    """Yield the terms of the derivative of ``tree`` along ``branch`` (product rule)."""
    yield _ordered((*tree, branch))
    for place, child in enumerate(tree):
        for grown in _grafts(child, branch):
            yield _ordered((*tree[:place], grown, *tree[place + 1 :]))


def _ordered(children: Tree) -> Tree:
    return tuple(sorted(children, key=lambda child: (_nodes(child), child)))


def _nodes(tree: Tree) -> int:
    return 1 + sum(map(_nodes, tree))


def modified_equation(loss: Loss, theta: Tensor, order: int) -> Tensor:
    """Evaluate the field and its counter terms ``f_0 .. f_order`` at one point.

    Exact to rounding: elementary differentials by repeated reverse-mode
    differentiation, no differencing in the learning rate. The cost in gradients
    is measured in the benchmarks.

    Parameters
    ----------
    loss
        Smooth function of one flat float64 vector of shape (P,), returning a scalar.
        ``f_order`` needs ``order + 1`` derivatives of it.
    theta
        Where to evaluate, shape (P,).
    order
        Number of counter terms, from 0 to 12.

    Returns
    -------
    Tensor
        Shape (order + 1, P): row j is ``f_j``; row 0 is ``-grad loss``. The EoM is
        ``theta' = sum_j learning_rate**j * f_j``.

    Raises
    ------
    ValueError
        If ``theta`` is not a flat float64 vector, ``loss`` is not a float64 scalar,
        ``order`` < 0, or the loss uses a fused normalisation whose higher
        derivatives are wrong in torch: weight normalisation from ``order`` 1 on,
        batch and layer normalisation from ``order`` 2 on.
    TypeError
        If ``loss`` is no function.
    FloatingPointError
        If a counter term is not finite; names it.

    Notes
    -----
    Source: ``f_j = sum over trees`` of :func:`counter_term_trees`; derived in the
    chapter *What does gradient descent follow?*
    """
    _check_problem(loss, theta, "theta")
    _check_order(order)
    _refuse_fused_normalisation(loss, theta, order)
    differentials = _Differentials(loss, theta)
    terms = [differentials.combine(counter_term_trees(j)) for j in range(order + 1)]
    for j, term in enumerate(terms):
        if not torch.isfinite(term).all():
            raise FloatingPointError(f"counter term f_{j} is not finite at theta")
    return torch.stack(terms)


def _refuse_fused_normalisation(loss: Loss, theta: Tensor, counter_term: int) -> None:
    # With gradients on, as later: without them torch may fuse whole layers.
    with torch.enable_grad():
        value = loss(theta.detach().clone().requires_grad_(True))
    # The graph names them; watching the calls would import torch's compiler.
    waiting, seen, found = [value.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [parent for parent, _ in node.next_functions]
        name = node.name().lower()
        found |= {n for n in WRONG_COUNTER_TERM if n.replace("_", "") in name}
    wrong = sorted(n for n in found if counter_term >= WRONG_COUNTER_TERM[n])
    if wrong:
        raise ValueError(
            f"loss calls the fused {' and '.join(wrong)}: torch returns wrong higher "
            f"derivatives for it, without a warning, and with them a wrong counter "
            f"term {counter_term}. Write the normalisation from mean, var and sqrt, "
            "or use equation_of_motion with method='burst'"
        )


class _Differentials:
    """Elementary differentials of ``f = -grad loss`` at one point.

    The derivatives ``f^(k)(v_1, .., v_k, .)`` that several trees share are built
    once: they are what makes the set-up worth keeping.
    """

    def __init__(self, loss: Loss, theta: Tensor) -> None:
        with torch.enable_grad():
            self.theta = theta.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(
                loss(self.theta), self.theta, create_graph=True
            )
            self.field = -gradient
        self._partial: dict[Tree, Tensor] = {(): self.field}
        self._values: dict[Tree, Tensor] = {(): self.field.detach()}

    def along(self, siblings: Tree, direction: Tensor, keep: bool = False) -> Tensor:
        """Evaluate ``f^(k+1)(F(siblings_1), .., F(siblings_k), direction)``."""
        partial = self._with_siblings(siblings)
        if not partial.requires_grad:
            return torch.zeros_like(direction)
        with torch.enable_grad():
            (result,) = torch.autograd.grad(
                partial,
                self.theta,
                direction,
                retain_graph=True,
                create_graph=keep,
                materialize_grads=True,
            )
        return result

    def _with_siblings(self, siblings: Tree) -> Tensor:
        if siblings not in self._partial:
            partial = self.along(siblings[:-1], self.value(siblings[-1]), keep=True)
            self._partial[siblings] = partial
            self._values[siblings] = partial.detach()
        return self._partial[siblings]

    def value(self, tree: Tree) -> Tensor:
        if tree not in self._values:
            self._values[tree] = self.along(tree[:-1], self.value(tree[-1])).detach()
        return self._values[tree]

    def combine(
        self, terms: Mapping[Tree, Fraction | float], carried: Tensor | None = None
    ) -> Tensor:
        """Sum ``coefficient * F(tree)``, plus ``f'(carried)``, in one backward pass.

        ``f^(k)`` is linear in its last argument, so trees that differ only in their
        largest child share one derivative, of the sum of those children; and the
        sum over the sets of siblings is itself one vector-Jacobian product.
        """
        families: defaultdict[Tree, dict[Tree, Fraction | float]] = defaultdict(dict)
        total = torch.zeros_like(self._values[()])
        for tree, coefficient in terms.items():
            if coefficient == 0:
                continue
            if tree in self._values:
                total = total + float(coefficient) * self._values[tree]
            else:
                families[tree[:-1]][tree[-1]] = coefficient
        if carried is not None:
            families.setdefault((), {})
        partials, directions = [], []
        # The derivatives of all siblings come first: directions reuse their values.
        for siblings in families:
            self._with_siblings(siblings)
        for siblings, children in families.items():
            partial = self._with_siblings(siblings)
            if partial.requires_grad:
                partials.append(partial)
                direction = self.combine(children)
                if carried is not None and siblings == ():
                    direction = direction + carried
                directions.append(direction)
        if partials:
            (product,) = torch.autograd.grad(
                partials,
                self.theta,
                directions,
                retain_graph=True,
                materialize_grads=True,
            )
            total = total + product
        return total


def burst_field(loss: Loss, theta: Tensor, learning_rate: float, order: int) -> Tensor:
    r"""Approximate the EoM field from a short burst of gradient-descent steps.

    .. math:: F(\theta_0) \approx \frac1\eta \sum_{m=1}^{p+1}
              \frac{(-1)^{m+1}}{m} \Delta^m \theta_0 ,
              \qquad \Delta\theta_k = \theta_{k+1} - \theta_k ,

    the derivative at ``t = 0`` of the polynomial through the iterates
    ``theta_0 .. theta_{p+1}``. It has the order of accuracy of ``F_p`` (with a larger
    constant) for ``order + 1`` plain gradients, at any size.

    Parameters
    ----------
    loss
        Smooth function of one flat float64 vector of shape (P,), returning a scalar.
    theta
        Where to evaluate, shape (P,).
    learning_rate
        Step length of the burst, > 0.
    order
        Order of accuracy p, from 0 to 12; 0 gives ``-grad loss``.

    Returns
    -------
    Tensor
        The field, shape (P,).

    Raises
    ------
    ValueError
        As :func:`gradient_descent`, and if ``order`` < 0.
    TypeError
        If ``loss`` is no function.
    FloatingPointError
        If the burst leaves the finite numbers.

    Notes
    -----
    Source: logarithm of the shift operator of the iteration; derived in the chapter
    *What does gradient descent follow?*
    """
    _check_problem(loss, theta, "theta")
    require_positive(learning_rate=learning_rate)
    _check_order(order)
    field = _burst(loss, theta, learning_rate, order)
    if not torch.isfinite(field).all():
        gradient_descent(loss, theta, learning_rate, order + 1)  # names the step
        raise FloatingPointError("the burst's field is not finite")
    return field


def _burst(loss: Loss, theta: Tensor, learning_rate: float, order: int) -> Tensor:
    """Sum the Newton series as weighted gradients, which loses no digits."""
    field = torch.zeros_like(theta)
    position = theta.detach()
    for k in range(order + 1):
        gradient = _gradient(loss, position)
        weight = sum(math.comb(m - 1, k) / m for m in range(k + 1, order + 2))
        field = field - (-1) ** k * weight * gradient
        position = position - learning_rate * gradient
    return field


def equation_of_motion(
    loss: Loss,
    theta0: Tensor,
    learning_rate: float,
    steps: int,
    order: int,
    method: Literal["series", "burst"] = "series",
    rtol: float = 1e-11,
    atol: float = 1e-13,
    samples_per_step: int = 1,
) -> Tensor:
    r"""Integrate the Equation of Motion and report it at the times of the iterates.

    .. math:: \dot\theta = \sum_{j=0}^{p} \eta^j f_j(\theta), \qquad
              \theta(0) = \theta_0 ,

    by an adaptive Runge-Kutta method of order 8 (scipy's ``DOP853``).

    Parameters
    ----------
    loss
        Smooth function of one flat float64 vector of shape (P,), returning a scalar.
    theta0
        Start, shape (P,).
    learning_rate
        The learning rate eta of the descent that is described, > 0.
    steps
        Number of descent steps, >= 0; the horizon is ``steps * learning_rate``.
    order
        Number of counter terms p, from 0 to 12; 0 is gradient flow.
    method
        ``"series"``: exact counter terms (:func:`modified_equation`);
        ``"burst"``: the Newton series of :func:`burst_field`, for large networks.
    rtol, atol
        Tolerances of the integrator, > 0.
    samples_per_step
        States reported per descent step, >= 1; more than one gives smooth curves.

    Returns
    -------
    Tensor
        States at ``t = 0, learning_rate, .., steps * learning_rate``, shape
        (steps + 1, P), or (steps * samples_per_step + 1, P); row 0 is ``theta0``.

    Raises
    ------
    ValueError
        As :func:`modified_equation` and :func:`gradient_descent`, and if ``method``
        is neither of the two or a tolerance is not > 0.
    TypeError
        If ``loss`` is no function.
    FloatingPointError
        If the integration fails; names the time.

    Notes
    -----
    Source: Miyagawa (2022) for the idea of the EoM; the field is derived in the
    chapter *What does gradient descent follow?*
    """
    _check_problem(loss, theta0)
    require_positive(learning_rate=learning_rate)
    require_integer(0, steps=steps)
    _check_order(order)
    require_positive(rtol=rtol)
    require_positive(atol=atol)
    require_integer(1, samples_per_step=samples_per_step)
    _check_deterministic(loss, theta0)
    if not isinstance(method, str) or method not in ("series", "burst"):
        raise ValueError(f"method must be 'series' or 'burst', got {method!r}")
    if method == "series":
        _refuse_fused_normalisation(loss, theta0, order)

    def series(theta: Tensor) -> Tensor:
        if order == 0:
            return -_gradient(loss, theta)
        return _Differentials(loss, theta).combine(terms)

    def burst(theta: Tensor) -> Tensor:
        return _burst(loss, theta, learning_rate, order)

    terms = _eom_terms(learning_rate, order)
    samples = np.arange(steps * samples_per_step + 1, dtype=np.float64)
    times = learning_rate * samples / samples_per_step
    velocity = series if method == "series" else burst
    return _integrate(velocity, theta0, times, rtol, atol)


def _eom_terms(learning_rate: float, order: int) -> dict[Tree, float]:
    return {
        tree: float(coefficient) * learning_rate**j
        for j in range(order + 1)
        for tree, coefficient in _counter_term(j).items()
    }


def _integrate(
    velocity: Callable[[Tensor], Tensor],
    start: Tensor,
    times: NDArray[np.float64],
    rtol: float,
    atol: float,
) -> Tensor:
    """Solve ``y' = velocity(y)`` from ``times[0]`` and report y at ``times``."""

    def right_hand_side(_: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        slope = velocity(torch.from_numpy(y).to(start)).detach()
        found: NDArray[np.float64] = slope.cpu().numpy()
        return found

    states = np.empty((len(times), start.numel()))
    states[0] = start.detach().cpu().numpy()
    if len(times) == 1:
        return torch.from_numpy(states).to(start)
    if not np.isfinite(right_hand_side(times[0], states[0])).all():
        raise FloatingPointError(f"the field is not finite at t = {times[0]}")
    # Trial steps may overflow; the step control rejects them.
    with (
        np.errstate(all="ignore"),
        progress.bar(times[-1], "equation of motion") as bar,
    ):
        solver = DOP853(
            right_hand_side, times[0], states[0], times[-1], rtol=rtol, atol=atol
        )
        reached = 1
        for _ in range(1000 + STEPS_PER_TIME * len(times)):
            if solver.status == "finished":
                break
            message = solver.step()
            if solver.status == "failed":
                raise FloatingPointError(
                    f"integration failed at t = {solver.t}: {message}"
                )
            upto = int(np.searchsorted(times, solver.t, side="right"))
            if upto > reached:
                states[reached:upto] = solver.dense_output()(times[reached:upto]).T
                reached = upto
            bar.update(solver.t - solver.t_old)
        else:
            raise FloatingPointError(
                f"integration has only reached t = {solver.t} of {times[-1]} after "
                "very many steps: the field is stiff or not smooth"
            )
    return torch.from_numpy(states).to(start)


def leading_error(
    loss: Loss, theta0: Tensor, learning_rate: float, steps: int, order: int
) -> Tensor:
    r"""Predict the discretization error of the EoM to leading order, as a vector.

    ``e_k = theta_EoM(k eta) - theta_k`` obeys, to leading order in ``eta``,

    .. math:: e_{k+1} = \bigl(I - \eta H(\theta_k)\bigr) e_k
              - \eta^{p+2} f_{p+1}(\theta_k), \qquad e_0 = 0 ,

    with ``H`` the Hessian of the loss. The factor ``I - eta H`` is the propagator: it
    carries earlier errors along the descent.

    Parameters
    ----------
    loss
        Smooth function of one flat float64 vector of shape (P,), returning a scalar.
    theta0
        Start, shape (P,).
    learning_rate
        Step length eta, > 0.
    steps
        Number of descent steps, >= 0.
    order
        Order p of the EoM whose error is predicted, from 0 to 11; 0 is gradient
        flow.

    Returns
    -------
    Tensor
        ``e_0 .. e_steps``, shape (steps + 1, P), in the units of ``theta0``.

    Raises
    ------
    ValueError
        As :func:`modified_equation` at order ``order + 1``.
    TypeError
        If ``loss`` is no function.
    FloatingPointError
        If an iterate of the descent or the predicted error is not finite; names the
        step.

    Notes
    -----
    Source: derived in the chapter *What does gradient descent follow?*
    """
    _check_order(order, HIGHEST_ORDER - 1)
    iterates = gradient_descent(loss, theta0, learning_rate, steps)
    _refuse_fused_normalisation(loss, theta0, order + 1)
    source = {
        tree: -float(coefficient) * learning_rate ** (order + 1)
        for tree, coefficient in counter_term_trees(order + 1).items()
    }
    errors = torch.zeros_like(iterates)
    with progress.bar(steps, "leading error") as bar:
        for step in range(steps):
            differentials = _Differentials(loss, iterates[step])
            growth = differentials.combine(source, carried=errors[step])
            errors[step + 1] = errors[step] + learning_rate * growth
            if not torch.isfinite(errors[step + 1]).all():
                raise FloatingPointError(
                    f"the predicted error is not finite at step {step + 1}"
                )
            bar.update(1)
    return errors


def largest_learning_rate(
    loss: Loss, theta0: Tensor, horizon: float, tolerance: float, order: int
) -> float:
    r"""Estimate the largest learning rate at which the EoM still describes descent.

    At fixed horizon the error is ``e(t) = eta^(p+1) u(t)`` to leading order, with
    ``u' = -H u - f_{p+1}`` along gradient flow and ``u(0) = 0``. Asking for
    ``max_t |e(t)| <= tolerance`` gives

    .. math:: \eta \le \Bigl( \texttt{tolerance} \big/
              \max_{t \le \texttt{horizon}} |u(t)| \Bigr)^{1/(p+1)} .

    A leading-order estimate, not a rigorous bound: the true limit differs from it by a
    relative amount of order ``eta``.

    Parameters
    ----------
    loss
        Smooth function of one flat float64 vector of shape (P,), returning a scalar.
    theta0
        Start, shape (P,).
    horizon
        Training time (learning rate times steps), > 0.
    tolerance
        Largest accepted Euclidean distance between EoM and descent, > 0.
    order
        Order p of the EoM, from 0 to 11; 0 is gradient flow.

    Returns
    -------
    float
        The learning rate; infinity if the leading error vanishes identically.

    Raises
    ------
    ValueError
        As :func:`modified_equation` at order ``order + 1``, or if ``horizon`` or
        ``tolerance`` is not > 0.
    TypeError
        If ``loss`` is no function.
    FloatingPointError
        If the integration fails; names the time.

    Notes
    -----
    Source: derived in the chapter *What does gradient descent follow?*
    """
    _check_problem(loss, theta0)
    _check_deterministic(loss, theta0)
    require_positive(horizon=horizon)
    require_positive(tolerance=tolerance)
    _check_order(order, HIGHEST_ORDER - 1)
    _refuse_fused_normalisation(loss, theta0, order + 1)
    source = {tree: -c for tree, c in counter_term_trees(order + 1).items()}
    size = theta0.numel()

    def velocity(state: Tensor) -> Tensor:
        differentials = _Differentials(loss, state[:size])
        growth = differentials.combine(source, carried=state[size:])
        return torch.cat([differentials.field.detach(), growth])

    start = torch.cat([theta0.detach(), torch.zeros_like(theta0)])
    times = np.linspace(0.0, horizon, 513, dtype=np.float64)
    path = _integrate(velocity, start, times, 1e-9, 1e-12)
    largest = float(path[:, size:].norm(dim=1).max())
    return (tolerance / largest) ** (1 / (order + 1)) if largest > 0 else math.inf
