r"""Steady states of a force that is no gradient: circulation and the law of the speed.

A state that moves with the velocity :math:`F(x)` under noise has a density with

.. math::
    \partial_t p = -\nabla \cdot J, \qquad J = F p - D \nabla p .

If :math:`F` is no gradient, the stationary density keeps a current: it does not change,
:math:`\nabla \cdot J = 0`, but circulates, :math:`J \ne 0`, and produces entropy
(:func:`entropy_production`). Which density it is, no formula says in general. Half of
the squared speed, :math:`E = \frac12 |F|^2`, is a potential that every force has. Its
Boltzmann law (:func:`speed_density`) is another density, which Qiu and Huang propose
(Commun. Theor. Phys. 77, 035601, 2025; arXiv 2401.10009); how far it is from the
stationary one, :func:`~fpbook.mean_field.total_variation` says.

For large random networks the same law has a theory. The networks and their dynamics
(:mod:`fpbook.random_networks`), the replica theory of the law of the speed
(:mod:`fpbook.annealed`, :mod:`fpbook.replicas`) and the theory of chaos
(:mod:`fpbook.dynamic_mean_field`) are importable from here.

Conventions in the plane: the solver :class:`~fpbook.fokker_planck.FokkerPlanck` with
``drift`` (Ito; time is the time of :math:`\dot x = F(x)`) on a
:class:`~fpbook.fokker_planck.Grid` of one axis or two, cell averages, diffusion
:math:`D`, temperature :math:`T` of the law of the speed. States have no unit; :math:`E`
and :math:`T` have that of a squared velocity, 1 / time squared, :math:`D` that of
1 / time.

Source: derived in the chapter *A measure for steady states*.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from fpbook.annealed import (
    annealed_exponent,
    critical_gains,
    paramagnet,
    trivial_weight,
)
from fpbook.dynamic_mean_field import (
    mean_field_dynamics,
    static_mean_field,
    typical_fixed_points,
)
from fpbook.finite_volumes import Field, Grid, on_grid
from fpbook.fokker_planck import FokkerPlanck
from fpbook.mean_field import total_variation
from fpbook.random_networks import (
    fixed_points,
    langevin,
    lyapunov_spectrum,
    plant,
    random_couplings,
    speed_energy,
    speed_gradient,
    trajectory,
    velocity,
)
from fpbook.replicas import order_parameters
from fpbook.validation import (
    require_callable,
    require_density,
    require_on_grid,
    require_positive,
    require_real,
    require_type,
)

__all__ = [
    "annealed_exponent",
    "critical_gains",
    "entropy_production",
    "fixed_points",
    "langevin",
    "lyapunov_spectrum",
    "masses_near",
    "mean_field_dynamics",
    "order_parameters",
    "paramagnet",
    "plant",
    "random_couplings",
    "speed_density",
    "speed_energy",
    "speed_gradient",
    "static_mean_field",
    "total_variation",
    "trajectory",
    "trivial_weight",
    "typical_fixed_points",
    "velocity",
]

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-290
"""Flow, over the largest one, that is taken for an underflow of the density."""


def entropy_production(equation: FokkerPlanck, density: ArrayLike) -> float:
    r"""Rate at which a density produces entropy, of a force and of its own spreading.

    .. math::
        \sigma = \int J^T D^{-1} J \,\frac{dx}{p}
        = \frac{d}{dt}\Bigl(-\!\int p \log p\, dx\Bigr) + \int J^T D^{-1} F \, dx

    It is computed for the Markov chain that the solver makes of the equation, with the
    formula of Schnakenberg for the flows :math:`w_{ab}\, p_a` between cells,

    .. math:: \sigma = \sum_{\text{faces}} (w_{ab}\, p_a - w_{ba}\, p_b)
        \log \frac{w_{ab}\, p_a}{w_{ba}\, p_b} ,

    which is :math:`\ge 0` whatever the grid, zero to rounding if there is no current,
    and differs from the integral by an error of second order in the width of the cells.
    (With a diffusion that depends on the state, :math:`F` in the last integral is to be
    read as :math:`F - \nabla \cdot D`.)

    Parameters
    ----------
    equation
        The equation, in one or two dimensions, with a diffusion > 0 that is a number,
        one number per axis, or diagonal.
    density
        Cell averages of mass 1, stationary or not, shape ``equation.grid.shape``.

    Returns
    -------
    float
        Entropy production, in 1 / time; infinite if a cell without mass borders on one
        with mass.

    Raises
    ------
    ValueError
        If the density is negative, not finite, not of mass 1 or does not fit the grid;
        if a jump of the chain has no reverse, as with a diffusion tensor that depends
        on the state.
    """
    require_type(FokkerPlanck, equation=equation)
    grid = equation.grid
    p = require_density("density", density, grid.shape, grid.cell_volume)
    flows = equation.generator * np.maximum(p.ravel(), 0.0)  # from column to row
    forth = sparse.csc_array(sparse.tril(flows, -1, format="csc"))
    back = sparse.csc_array(sparse.tril(flows.T, -1, format="csc"))
    for half in (forth, back):
        half.sort_indices()
    if not (
        np.array_equal(forth.indptr, back.indptr)
        and np.array_equal(forth.indices, back.indices)
    ):
        raise ValueError(
            "entropy_production needs jumps that can be reversed: give a diffusion "
            "that is a number, one per axis, or diagonal"
        )
    larger = np.maximum(forth.data, back.data)
    seen = larger > NEGLIGIBLE * larger.max()
    one, other = forth.data[seen], back.data[seen]
    with np.errstate(divide="ignore"):
        produced = (one - other) * (np.log(one) - np.log(other))
    return float(produced.sum() * grid.cell_volume)


def speed_density(grid: Grid, drift: Field, temperature: float) -> Array:
    r"""Boltzmann law of half the squared speed.

    .. math:: P(x) = \frac{1}{Z}\, e^{-E(x) / T}, \qquad E(x) = \tfrac12 |F(x)|^2

    The values at the centres of the cells, normalised on the grid. As :math:`T \to 0`
    it becomes a sum of points, the zeros :math:`x_*` of :math:`F`, stable or not, with
    masses proportional to :math:`1 / |\det F'(x_*)|`. Cells have to resolve its peaks,
    of width :math:`\sqrt T` over a singular value of :math:`F'`.

    Parameters
    ----------
    grid
        The cells, in any number of dimensions; mass beyond the walls is left out.
    drift
        The velocity :math:`F`, callable (n, d) -> (n, d), in 1 / time.
    temperature
        :math:`T` > 0, in 1 / time squared.

    Returns
    -------
    array
        Density of mass 1, shape ``grid.shape``.

    Raises
    ------
    ValueError
        If the temperature is not > 0, or the drift returns the wrong shape or numbers
        that are not finite.

    Examples
    --------
    Two stable points and an unstable one between them, which gets half of the mass:

    >>> grid = Grid(-2, 2, 400)
    >>> density = speed_density(grid, lambda x: x - x**3, 0.01)
    >>> print(masses_near(density, grid, [[-1.0], [0.0], [1.0]]).round(3))
    [0.25 0.5  0.25]
    """
    require_type(Grid, grid=grid)
    require_callable(drift=drift)
    require_positive(temperature=temperature)
    velocity = on_grid("drift", drift, grid.centers, (len(grid.shape),))
    energy = (velocity**2).sum(axis=-1) / 2
    weights: Array = np.exp(-(energy - energy.min()) / temperature)
    weights /= weights.sum() * grid.cell_volume
    return weights


def masses_near(density: ArrayLike, grid: Grid, points: ArrayLike) -> Array:
    r"""Share of the mass that lies nearest to each of some points.

    A cell belongs to the point that its centre is closest to, to the first of several.

    Parameters
    ----------
    density
        Cell averages, shape ``grid.shape``.
    grid
        The cells, in any number d of dimensions.
    points
        The points, shape (m, d), m >= 1.

    Returns
    -------
    array
        Masses, shape (m,); their sum is that of the density.

    Raises
    ------
    ValueError
        If the density does not fit the grid, or the points have the wrong shape or are
        not finite.
    """
    require_type(Grid, grid=grid)
    field = require_on_grid("density", density, grid.shape)
    given = require_real("points", points)
    d = len(grid.shape)
    if given.ndim != 2 or given.shape[1] != d or not len(given):
        raise ValueError(f"points must have shape (m, {d}), got {given.shape}")
    if not np.all(np.isfinite(given)):
        raise ValueError("points must be finite, got some that are not")
    distance = np.zeros((len(given), *grid.shape))
    for axis, centers in enumerate(grid.centers):
        along = np.subtract.outer(given[:, axis], centers) ** 2
        others = [1 + i for i in range(d) if i != axis]
        distance += np.expand_dims(along, tuple(others))
    nearest = distance.argmin(axis=0).ravel()
    mass = field.ravel() * grid.cell_volume
    shares: Array = np.bincount(nearest, mass, len(given)).astype(float)
    return shares
