"""Calls that are right, for the modules from annealed to growing_surfaces."""

import numpy as np
import torch
from fuzzing import Call
from matplotlib.figure import Figure

from fpbook.deep_autoencoder import balanced_network, record
from fpbook.finite_volumes import Grid, gaussian
from fpbook.fokker_planck import FokkerPlanck


def of(arguments, allowed):
    """What a table of several functions allows for some arguments."""
    return {
        (name, bad): reason
        for (names, bad), reason in allowed.items()
        for name in names.split()
        if name in arguments
    }


BROADCAST = "arguments are broadcast together"
YES_OR_NO = "an answer to a yes-or-no question"

ANNEALED = [
    Call(
        "annealed.critical_gains",
        {"gamma": 0.5},
        {("gamma", "zero array"): "of any shape; independent couplings"},
    ),
    Call(
        "annealed.trivial_weight",
        {"g": 0.7, "gamma": 0.5},
        {("g gamma", "array"): BROADCAST, ("gamma", "zero negative"): "in range"},
    ),
    Call(
        "annealed.paramagnet",
        {"g": 0.7, "gamma": 0.5, "temperature": 1.0, "cold": False},
        {
            ("g gamma temperature", "array"): BROADCAST,
            ("gamma", "zero negative"): "in range",
            ("temperature", "zero"): "a limit in closed form",
        },
    ),
    Call(
        "annealed.single_site_law",
        {"q": 0.3, "r": 0.6, "qhat": -0.1, "g": 0.7, "gamma": 0.5, "temperature": 1.0},
        {
            ("r qhat", "negative zero"): "an order parameter of either sign",
            ("q g temperature", "zero"): "the other term of s is left",
            ("gamma", "zero negative"): "in range",
        },
    ),
    Call(
        "annealed.annealed_exponent",
        {"q": 0.3, "g": 1.5, "gamma": 0.5, "temperature": 0.1},
        {
            ("q g gamma temperature", "array"): BROADCAST,
            ("gamma temperature", "zero"): "in range",
        },
    ),
]


# --- autoencoder --------------------------------------------------------------------

RNG = np.random.default_rng(0)
MANY = "any number of them"
NO_DECAY = "no weight decay"
NO_NOISE = "no noise"
STACKED = "any number of axes in front"

W = RNG.standard_normal((3, 2))
W1, W2 = RNG.standard_normal((2, 3)), RNG.standard_normal((3, 2))
COVARIANCE = np.diag([1.0, 2.0, 3.0])
A_FIELD = "documented: what is not finite is passed on, since solvers call it"
SCALAR = {
    ("w", "nested short0 long0 empty0"): STACKED,
    ("w", "nan inf huge"): A_FIELD,
    ("weight_decay", "zero"): NO_DECAY,
    ("label_noise", "zero"): NO_NOISE,
}
MATRIX = {
    ("W1 W2", "nested"): "one of many networks",
    ("weight_decay", "zero"): NO_DECAY,
    ("label_noise", "zero"): NO_NOISE,
}

AUTOENCODER = [
    *(
        Call(
            f"autoencoder.{function}",
            {"w": W, "activation": "tanh", "data_scale": 1.5, option: 0.1},
            {key: reason for key, reason in SCALAR.items() if key[0] in ("w", option)},
        )
        for function, option in (
            ("scalar_loss", "weight_decay"),
            ("scalar_gradient", "weight_decay"),
            ("scalar_noise", "label_noise"),
        )
    ),
    Call(
        "autoencoder.scalar_minibatch_gradient",
        {
            "w": W,
            "batch": RNG.standard_normal((3, 4, 2)),
            "activation": "erf",
            "weight_decay": 0.1,
        },
        {
            ("batch", "short1 long1"): MANY,
            ("w", "nan inf huge"): A_FIELD,
            ("weight_decay", "zero"): NO_DECAY,
        },
    ),
    Call(
        "autoencoder.balance_step",
        {
            "difference": np.array([0.5, -0.2]),
            "residual": np.array([0.1, 0.3]),
            "learning_rate": 0.1,
            "weight_decay": 0.1,
        },
        {
            ("difference residual", "nested short0"): BROADCAST,
            ("weight_decay", "zero"): NO_DECAY,
        },
    ),
    *(
        Call(
            f"autoencoder.{function}",
            {"W1": W1, "W2": W2, "covariance": COVARIANCE, option: 0.1},
            {k: reason for k, reason in MATRIX.items() if k[0] == option},
        )
        for function, option in (
            ("matrix_loss", "weight_decay"),
            ("matrix_gradient", "weight_decay"),
            ("matrix_noise", "label_noise"),
        )
    ),
    Call(
        "autoencoder.frozen_hessian",
        {"W2": W2, "covariance": COVARIANCE, "weight_decay": 0.1},
        {("W2", "short1 long1"): MANY, ("weight_decay", "zero"): NO_DECAY},
    ),
    Call(
        "autoencoder.ornstein_uhlenbeck",
        {
            "hessian": np.diag([1.0, 2.0]),
            "diffusion": np.diag([0.1, 0.2]),
            "minimum": np.array([0.5, -0.5]),
            "mean0": np.array([1.0, 2.0]),
            "covariance0": np.diag([0.1, 0.2]),
            "times": np.array([0.5, 1.0]),
        },
        {("times", "short0"): MANY},
    ),
    Call(
        "autoencoder.rotation_radii",
        {"W": RNG.standard_normal((3, 2, 2))},
        {("W", "nested short0 long0"): STACKED},
    ),
    Call(
        "autoencoder.singular_values",
        {"radii": np.ones((3, 2))},
        {("radii", "nested short0 long0"): STACKED},
    ),
    Call(
        "autoencoder.rotation_invariant_potential",
        {
            "loss_of_singular_values": lambda s: np.sum((1 - s**2) ** 2, axis=-1) / 2,
            "temperature": 0.5,
        },
        then=lambda potential: potential(np.ones((3, 2))),
    ),
    Call("autoencoder.rayleigh", {"grid": Grid([0, 0], [3, 3], 4), "std": 0.5}),
]


# --- callan_symanzik, correlators, exact_series -------------------------------------

COUPLINGS = {2: 0.5, 4: 1.0}
EITHER_SIGN = "of either sign"
TIMES = np.array([0.5, 1.0])


def free_correlator(g, t, orders):
    """Moments of free diffusion, with a small correction by the coupling."""
    double = {2: 1.0, 4: 3.0, 6: 15.0}
    return np.array([double[n] * t ** (n / 2) * (1 - n * g * t**2 / 4) for n in orders])


CALLAN_SYMANZIK = [
    Call(
        "callan_symanzik.characteristics",
        {
            "gradient": lambda w: w,
            "laplacian": lambda w: np.full(len(w), 2.0),
            "points": np.ones((3, 2)),
            "times": TIMES,
        },
        {("points", "short0 long0 short1 long1"): MANY, ("times", "short0"): MANY},
    ),
    Call(
        "callan_symanzik.ward_residual",
        {
            "couplings": COUPLINGS,
            "temperature": 0.5,
            "time": 0.5,
            "order": 2,
            "identity": "length",
        },
        {("order", "zero"): "the mean of 1"},
    ),
    Call(
        "callan_symanzik.running",
        {
            "times": 1.1 ** np.arange(8),
            "second": 1.2 ** np.arange(8),
            "fourth": 3 * 1.4 ** np.arange(8),
        },
    ),
    Call(
        "callan_symanzik.callan_symanzik_residual",
        {
            "correlator": free_correlator,
            "coupling": 0.01,
            "tau": 1.0,
            "time": 1.5,
            "orders": [2, 4],
            "step": 0.01,
        },
    ),
    Call(
        "callan_symanzik.static_flow",
        {"curvature": np.array([-1.0, 1.0]), "coupling": 1.0, "temperature": 0.5},
        {("curvature", "short0 long0"): MANY},
    ),
    Call(
        "callan_symanzik.static_residual",
        {"curvature": 1.0, "coupling": 1.0, "temperature": 0.5, "orders": [2, 4]},
        {("curvature", "zero negative"): EITHER_SIGN},
    ),
    Call(
        "callan_symanzik.survival",
        {"strength": 0.2, "temperature": 0.5, "start": 1.0, "times": TIMES},
        {
            ("strength", "zero negative"): EITHER_SIGN,
            ("times", "short0"): MANY,
        },
    ),
    Call(
        "callan_symanzik.survival_from_density",
        {
            "strength": 0.2,
            "temperature": 0.5,
            "start": 1.0,
            "times": TIMES,
            "cells": 100,
        },
        {
            ("strength", "zero negative"): EITHER_SIGN,
            ("times", "short0"): MANY,
        },
    ),
    Call(
        "correlators.correlators",
        {
            "couplings": COUPLINGS,
            "temperature": 0.5,
            "times": TIMES,
            "orders": [2, 4],
            "half_width": 4.0,
        },
        {("times", "short0"): MANY},
    ),
    Call("exact_series.moment_series", {"order": 3}),
    Call("exact_series.static_series", {"order": 3}),
]

# --- claims -------------------------------------------------------------------------

ANY_TEXT = "any text"

CLAIMS = [
    Call(
        "claims.check",
        {
            "statement": "two and two are four",
            "measured": np.array([4.0, 4.0]),
            "expected": np.array([4.0, 4.0]),
            "atol": 0.1,
            "error": np.array([0.1, 0.1]),
            "source": "arithmetic",
        },
        {
            ("statement source", "text"): ANY_TEXT,
            ("atol", "zero"): "exact",
        },
        then=lambda result: 1.0,
    ),
    Call(
        "claims.check",
        {
            "statement": "two and two are four",
            "measured": 4.0,
            "interval": (3.9, 4.1),
            "hint": "count",
            "source": "arithmetic",
        },
        {
            ("statement source hint", "text"): ANY_TEXT,
            ("measured", "array"): "every element is checked",
            ("measured", "true"): YES_OR_NO,
            ("interval", "inf huge"): "open to one side",
        },
        then=lambda result: 1.0,
    ),
    Call(
        "claims.check",
        {
            "statement": "four",
            "measured": 4.0,
            "expected": 4.0,
            "rtol": 0.1,
            "source": "x",
        },
        {
            ("statement source", "text"): ANY_TEXT,
            ("measured", "array"): "every element is checked",
            ("measured expected", "true"): YES_OR_NO,
            ("rtol", "zero"): "exact",
        },
        then=lambda result: 1.0,
    ),
]

# --- deep_autoencoder ---------------------------------------------------------------

NETWORK = balanced_network(4, 3, 0)
X, Y = RNG.standard_normal((5, 4)), RNG.standard_normal((5, 4))
RECORD = record(X, Y, NETWORK, 0.1, 2, 3, 0)

DEEP_AUTOENCODER = [
    Call("deep_autoencoder.balanced_network", {"inputs": 4, "hidden": 3, "seed": 0}),
    Call(
        "deep_autoencoder.network_gradient",
        {"network": NETWORK, "x": X, "y": Y},
        {
            ("network", "W1_nan W2_nan W_nan W4_nan W5_nan"): A_FIELD,
            ("x y", "nan inf huge"): A_FIELD,
        },
    ),
    Call(
        "deep_autoencoder.record",
        {
            "inputs": X,
            "targets": Y,
            "network": NETWORK,
            "learning_rate": 0.1,
            "batch_size": 2,
            "steps": 2,
            "seed": 0,
            "outer_ratio": 0.5,
            "skip": 1,
        },
        {("skip", "zero"): "nothing is skipped"},
    ),
    Call(
        "deep_autoencoder.retrain_whole",
        {
            "history": RECORD,
            "inputs": X,
            "targets": Y,
            "start": np.ones((3, 4)),
            "seed": 0,
            "snapshots": [0, 2],
            "chunk": 2,
        },
        {
            ("start", "short0 long0"): MANY,
            ("history", "blocks_nested blocks_nan"): "the old path is not needed",
        },
    ),
]

# --- dynamic_mean_field -------------------------------------------------------------

DYNAMIC_MEAN_FIELD = [
    Call(
        "dynamic_mean_field.mean_field_dynamics",
        {"g": 1.5, "longest": 10.0, "points": 11},
    ),
    Call(
        "dynamic_mean_field.static_mean_field",
        {"g": 1.5, "gamma": 0.5},
        {("gamma", "zero negative"): "in range"},
    ),
    Call("dynamic_mean_field.typical_fixed_points", {"g": 1.5}),
]

# --- equation_of_motion -------------------------------------------------------------


def basin(theta):
    return (theta**2).sum() / 2 + (theta**4).sum() / 4


THETA = torch.tensor([0.5, -0.3], dtype=torch.float64)
DESCENT = {"loss": basin, "theta0": THETA, "learning_rate": 0.1, "steps": 2}
FLOW = {
    ("theta theta0", "short0 long0"): "any number of parameters",
    ("steps", "zero"): "the start alone",
    ("order", "zero"): "gradient flow",
}
JUDGED_LATER = "the loss is checked where it is used"

EQUATION_OF_MOTION = [
    Call(
        "equation_of_motion.flat_loss",
        {
            "module": torch.nn.Linear(2, 1),
            "inputs": torch.ones(3, 2, dtype=torch.float64),
            "targets": torch.ones(3, 1, dtype=torch.float64),
            "criterion": torch.nn.functional.mse_loss,
        },
        {
            ("inputs targets", "nested short0 long0 long1 whole"): JUDGED_LATER,
            ("inputs", "short1"): JUDGED_LATER,
            ("inputs targets", "single huge"): "converted to float64",
            ("criterion", "returns_nan returns_shape returns_text returns_none"): (
                JUDGED_LATER
            ),
        },
        then=lambda pair: pair[1],
    ),
    Call("equation_of_motion.gradient_descent", DESCENT, of(DESCENT, FLOW)),
    Call("equation_of_motion.counter_term_trees", {"order": 2}, of(["order"], FLOW)),
    Call(
        "equation_of_motion.modified_equation",
        {"loss": basin, "theta": THETA, "order": 1},
        of(["theta", "order"], FLOW),
    ),
    Call(
        "equation_of_motion.burst_field",
        {"loss": basin, "theta": THETA, "learning_rate": 0.1, "order": 1},
        of(["theta", "order"], FLOW),
    ),
    Call(
        "equation_of_motion.equation_of_motion",
        {
            **DESCENT,
            "order": 1,
            "method": "burst",
            "rtol": 1e-8,
            "atol": 1e-8,
            "samples_per_step": 2,
        },
        of(["theta0", "steps", "order"], FLOW),
    ),
    Call(
        "equation_of_motion.leading_error",
        {**DESCENT, "order": 1},
        of(["theta0", "steps", "order"], FLOW),
    ),
    Call(
        "equation_of_motion.largest_learning_rate",
        {
            "loss": basin,
            "theta0": THETA,
            "horizon": 0.5,
            "tolerance": 0.1,
            "order": 1,
        },
        of(["theta0", "order"], FLOW),
    ),
]

# --- explore, figures ---------------------------------------------------------------


def draw(height):
    figure = Figure(figsize=(1.5, 1))
    figure.add_subplot().plot([0, height])
    return figure


def static_page(shown):
    return len(shown._repr_mimebundle_()["text/html"])


def axes_with_a_line():
    axes = Figure().add_subplot()
    axes.plot([1.0, 2.0], [1.0, 2.0])
    return axes


def entered(block):
    with block:
        return 1.0


EXPLORE = [
    Call(
        "explore.explore",
        {
            "draw": draw,
            "labels": {"height": "a height"},
            "start": {"height": 2.0},
            "play": "height",
            "height": [1.0, 2.0],
        },
        {
            ("draw", "returns_nan"): "a figure cannot be NaN",
            ("labels", "textual"): ANY_TEXT,
        },
        then=lambda shown: 1.0,
    ),
    Call("figures.size", {"width": 0.5, "aspect": 0.6}),
    Call(
        "figures.image_bundle",
        {"figure": axes_with_a_line().figure},
        then=lambda result: 1.0,
    ),
    Call(
        "figures.laid_out",
        {"figure": axes_with_a_line().figure},
        then=entered,
    ),
    Call(
        "figures.plain_powers",
        {"axis": axes_with_a_line().xaxis},
        then=lambda result: 1.0,
    ),
    Call(
        "figures.label_line",
        {"axes": axes_with_a_line(), "text": "a line", "at": 0.5, "offset": 4.0},
        {
            ("text", "text"): ANY_TEXT,
            ("at", "zero"): "the first point",
            ("offset", "zero negative"): "to any side",
        },
        then=lambda result: 1.0,
    ),
]

# --- finite_volumes, fokker_planck --------------------------------------------------

LINE, PLANE = Grid(-4, 4, 20), Grid([-4, -4], [4, 4], [6, 8])
DENSITY = gaussian(LINE, 0.0, 0.5) / (gaussian(LINE, 0.0, 0.5).sum() * LINE.cell_volume)
EQUATION = FokkerPlanck(LINE, 0.5, potential=lambda w: w[:, 0] ** 2 / 2)


def tensor(w):
    return np.tile([[0.5, 0.1], [0.1, 0.4]], (len(w), 1, 1))


FOKKER_PLANCK = [
    Call(
        "finite_volumes.Grid",
        {"lower": [-1.0, -1.0], "upper": [1.0, 1.0], "cells": [3, 4]},
        then=lambda grid: grid.cell_volume,
    ),
    Call(
        "finite_volumes.Grid",
        {"lower": -1.0, "upper": 1.0, "cells": 3},
        {("lower", "negative zero"): "in order", ("upper", "zero"): "in order"},
        then=lambda grid: grid.cell_volume,
    ),
    Call(
        "finite_volumes.gaussian",
        {"grid": PLANE, "mean": np.array([0.0, 0.1]), "std": np.array([0.5, 0.6])},
    ),
    *(
        Call(
            "fokker_planck.FokkerPlanck",
            {"grid": PLANE, "diffusion": diffusion, **force},
            {("diffusion", other): "a number, one per axis, or a function"},
            then=lambda equation: equation.generator.data,
        )
        for diffusion, other in (
            (0.5, "array"),
            (np.array([0.5, 0.4]), ""),
            (lambda w: np.full(w.shape, 0.5), "number"),
            (tensor, "number"),
        )
        for force in (
            {"potential": lambda w: np.sum(w**2, axis=1) / 2},
            {"drift": lambda w: -w},
        )
    ),
    Call(
        "fokker_planck.FokkerPlanck.evolve",
        {"self": EQUATION, "density": DENSITY, "times": TIMES, "dt": 0.1},
        {("times", "short0"): MANY},
    ),
    Call("fokker_planck.FokkerPlanck.current", {"self": EQUATION, "density": DENSITY}),
    *(
        Call(
            "fokker_planck.FokkerPlanck.mean",
            {"self": EQUATION, "observable": observable, "density": DENSITY},
            {("density", "nested"): "axes of times in front"},
        )
        for observable in (LINE.centers[0], lambda w: w[:, 0])
    ),
    Call(
        "fokker_planck.FokkerPlanck.free_energy",
        {"self": EQUATION, "density": DENSITY},
        {("density", "nested"): "axes of times in front"},
    ),
    Call("fokker_planck.FokkerPlanck.relaxation_rates", {"self": EQUATION, "k": 2}),
]

# --- growing_surfaces ---------------------------------------------------------------

SURFACE = {"width": 3, "steps": 4, "seed": 0}
NO_STEP = "the start alone"

GROWING_SURFACES = [
    *(
        Call(
            "growing_surfaces.last_passage",
            {**SURFACE, "geometry": geometry, "times": [3, 4], "samples": 2},
        )
        for geometry in ("flat", "point")
    ),
    Call(
        "growing_surfaces.directed_polymer",
        {**SURFACE, "strength": 1.0, "times": [0, 4], "samples": 2},
        {("strength", "zero"): NO_NOISE},
    ),
    Call(
        "growing_surfaces.kpz_equation",
        {
            "width": 4,
            "times": TIMES,
            "seed": 0,
            "viscosity": 1.0,
            "nonlinearity": 3.0,
            "noise": 1.0,
            "dt": 0.1,
            "stationary": True,
            "samples": 2,
        },
        {
            ("times", "short0"): MANY,
            ("nonlinearity", "zero negative"): EITHER_SIGN,
            ("noise", "zero"): NO_NOISE,
        },
    ),
    Call(
        "growing_surfaces.random_environment_walk",
        {
            "steps": 4,
            "seed": 0,
            "velocities": np.array([0.0, 0.5]),
            "times": [2, 4],
            "samples": 2,
        },
        {("velocities", "short0 long0"): MANY},
    ),
]

CALLS: list[Call] = [
    *ANNEALED,
    *AUTOENCODER,
    *CALLAN_SYMANZIK,
    *CLAIMS,
    *DEEP_AUTOENCODER,
    *DYNAMIC_MEAN_FIELD,
    *EQUATION_OF_MOTION,
    *EXPLORE,
    *FOKKER_PLANCK,
    *GROWING_SURFACES,
]
