"""Calls that are right, for the modules from kpz to weak_correlations."""

from functools import cache

import numpy as np
import torch

# torch needs it for derivatives, and longer to import it than a call may take.
import torch._dynamo
from fuzzing import Call

from fpbook import networks, random_networks
from fpbook.deep_autoencoder import Network, record
from fpbook.finite_volumes import Grid, face_rates, gaussian
from fpbook.fokker_planck import FokkerPlanck
from fpbook.tracy_widom import tracy_widom

MANY = "any number of them"
STACKED = "any number of axes in front"
ONE_SAMPLE = "one of several samples"
BROADCAST = "arguments are broadcast together"
IN_RANGE = "from -1 to 1"
FIRST = "the first of them"
NO_NOISE = "no noise"
NO_DECAY = "no weight decay"
NO_COUPLING = "neurons without couplings"
NO_STEPS = "the start alone"
FLOW = "gradient flow"
STATIONARY = "a stationary point"
REPLICAS = "any number of replicas, also none"
NETWORKS_OR_SINGLE = "several networks, or one in single precision"
ALL_CORES = "documented: -1 for all there are"
ANY_TEXT = "any text"
NAN = "documented: what is not a number stays so"
PASSED_ON = "documented: training calls it at every step"
NOT_READ = "a part of the record that it does not read"
ITS_FUNCTION = "the function decides about shapes; its own error is left as it is"


def _rng():
    return np.random.default_rng(0)


LINE, PLANE = (Grid(-3.0, 3.0, 12), Grid([-3.0, -3.0], [3.0, 3.0], 12))


def _normal(grid):
    density = gaussian(grid, 0.1, 0.4)
    return density / (density.sum() * grid.cell_volume)


def _well(points):
    return (points**2).sum(axis=-1) / 2


def _back(points):
    return -points


# --- kpz ------------------------------------------------------------------------------

HEIGHTS = _rng().standard_normal(64)
KPZ = [
    Call(
        "kpz.log_density_equation",
        {
            "grid": LINE,
            "densities": np.stack([gaussian(LINE, 0.0, s) for s in (0.9, 1.0, 1.1)]),
            "times": [0.0, 0.1, 0.2],
            "potential": _well,
            "diffusion": 0.5,
        },
    ),
    Call(
        "kpz.height_moments",
        {"heights": HEIGHTS, "blocks": 8},
        {("heights", "nested"): ONE_SAMPLE},
    ),
    Call(
        "kpz.growth_exponent",
        {"times": [1.0, 2.0, 4.0, 8.0], "variances": [1.0, 1.5, 2.6, 4.0]},
    ),
    Call(
        "kpz.roughness",
        {"heights": HEIGHTS.reshape(4, 16)},
        {("heights", "nested short0 long0 short1 long1"): STACKED},
    ),
    Call(
        "kpz.structure_factor",
        {"heights": HEIGHTS.reshape(4, 16)},
        {("heights", "nested short0 long0 short1 long1"): STACKED},
    ),
    Call(
        "kpz.empirical_log_density",
        {"walkers": HEIGHTS.reshape(4, 16), "edges": [-3.0, 0.0, 3.0]},
        {("walkers", "short0 long0 short1 long1"): MANY, ("edges", "short0"): MANY},
    ),
    Call(
        "kpz.multinomial_variance",
        {"probability": [0.2, 0.5], "networks": 10},
        {("probability", "nested short0 long0"): MANY},
    ),
]


# --- langevin -------------------------------------------------------------------------


def _mean_gradient(walkers, batch):
    return walkers - batch.mean(axis=1)


def _move(walkers, rng):
    while True:
        walkers += rng.standard_normal(walkers.shape)
        yield


START = _rng().standard_normal((6, 2))
RUN = {"steps": 3, "seed": 0, "snapshots": [0, 3], "chunk": 4, "jobs": 1}
LANGEVIN = [
    Call(
        "langevin.langevin_ensemble",
        {"drift": _back, "diffusion": 0.5, "x0": START, "dt": 0.1, **RUN},
        {
            ("diffusion", "zero"): NO_NOISE,
            ("diffusion", "array"): "one per weight",
            ("x0", "short0 long0 short1 long1"): MANY,
            ("jobs", "negative"): ALL_CORES,
        },
    ),
    Call(
        "langevin.sgd_ensemble",
        {
            "gradient": _mean_gradient,
            "data": _rng().standard_normal((5, 2)),
            "x0": START,
            "learning_rate": 0.1,
            "batch_size": 2,
            **RUN,
        },
        {
            ("data", "short0 long0"): MANY,
            ("data", "short1"): "the gradient of this table takes it",
            ("data", "nested long1"): ITS_FUNCTION,
            ("x0", "short0 long0"): MANY,
            ("x0", "short1 long1"): ITS_FUNCTION,
            ("jobs", "negative"): ALL_CORES,
        },
    ),
    Call(
        "langevin.move_ensemble",
        {"move": _move, "start": START, **RUN, "description": "walk"},
        {
            ("move", "returns_nan"): "the function itself fails, a generator times NaN",
            ("start", "short0 long0 short1 long1"): MANY,
            ("jobs", "negative"): ALL_CORES,
            ("description", "text"): ANY_TEXT,
        },
    ),
    Call(
        "langevin.histogram",
        {"walkers": START, "grid": PLANE},
        {("walkers", "short0 long0"): MANY},
    ),
    Call(
        "langevin.l1_distance",
        {"walkers": START, "grid": PLANE, "density": _normal(PLANE), "bins": 2},
        {("walkers", "short0 long0"): MANY, ("bins", "array"): "one per axis"},
    ),
    Call(
        "langevin.wasserstein",
        {"walkers": HEIGHTS, "edges": LINE.edges[0], "density": _normal(LINE)},
        {("walkers", "short0 long0"): MANY},
    ),
    Call(
        "langevin.kolmogorov_smirnov",
        {"walkers": HEIGHTS, "edges": LINE.edges[0], "density": _normal(LINE)},
        {("walkers", "short0 long0"): MANY},
    ),
]
# --- mean_field -----------------------------------------------------------------------

MEAN_FIELD = [
    Call(
        "mean_field.mean_field_moments",
        {
            "mean1": [[0.1, 0.2]],
            "covariance1": 0.1 * np.eye(2),
            "mean2": [[0.1], [0.3]],
            "covariance2": 0.2 * np.eye(2),
            "times": [0.0, 0.1],
            "temperature": 0.1,
            "data_covariance": np.eye(2),
            "weight_decay": 0.1,
            "variant": "coupled",
        },
        {
            ("times", "short0"): MANY,
            ("temperature", "zero"): NO_NOISE,
            ("weight_decay", "zero"): NO_DECAY,
        },
    ),
    Call(
        "mean_field.mean_field",
        {
            "density1": _normal(LINE),
            "grid1": LINE,
            "density2": _normal(LINE),
            "grid2": LINE,
            "times": [0.0, 0.04],
            "temperature": 0.1,
            "data_covariance": 1.0,
            "weight_decay": 0.1,
            "coupling_step": 0.02,
        },
        {
            ("times", "short0"): MANY,
            ("data_covariance", "zero"): "data without any spread",
            ("weight_decay", "zero"): NO_DECAY,
        },
    ),
    Call(
        "mean_field.total_variation",
        {"p": _normal(LINE), "q": _normal(LINE), "grid": LINE},
    ),
    Call("mean_field.mutual_information", {"joint": _normal(PLANE), "grid": PLANE}),
    Call(
        "mean_field.output_density",
        {
            "joint": _normal(PLANE),
            "grid": PLANE,
            "edges": [-1.0, 0.5, 1.0],
            "data_scale": 1.0,
        },
        {("edges", "short0"): MANY},
    ),
]
# --- memory, progress, runs -----------------------------------------------------------

SMALL = [
    Call(
        "memory.require_memory",
        {"needed": 1.0, "what": "a number", "allowed": 8.0},
        {
            ("needed", "zero"): "nothing is needed",
            ("what", "text"): ANY_TEXT,
            ("allowed", "inf huge"): "no limit",
        },
    ),
    Call(
        "progress.bar",
        {"total": 3.0, "description": "counting"},
        {("total", "zero"): "no work", ("description", "text"): ANY_TEXT},
    ),
    Call(
        "runs.choose",
        {"page": 1, "full": 2},
        {
            (
                "page full",
                "text none object nan inf complex true negative zero array fraction",
            ): "a size of any kind, passed on"
        },
    ),
]
# --- networks -------------------------------------------------------------------------

NETWORK = networks.mlp(3, 2, "erf", 2, 0)
THETA = NETWORK.params
X, X_TEST = (_rng().standard_normal((4, 2)), _rng().standard_normal((3, 2)) + 1)
Y = np.linspace(-1.0, 1.0, 4)
NETWORKS = [
    Call(
        "networks.mlp",
        {
            "width": 3,
            "depth": 2,
            "activation": "erf",
            "input_dim": 2,
            "seed": 0,
            "parametrization": "ntk",
            "scale": 1.0,
            "sigma_w": 1.0,
            "sigma_b": 0.1,
            "device": "cpu",
        },
        {("sigma_b", "zero"): "no biases"},
    ),
    Call(
        "networks.Network.layers",
        {"self": NETWORK, "params": THETA},
        {
            ("params", "nested single"): NETWORKS_OR_SINGLE,
            ("params", "nan inf"): PASSED_ON,
        },
    ),
    Call(
        "networks.trace",
        {"network": NETWORK, "params": THETA, "x": X},
        {
            ("params", "nested single"): NETWORKS_OR_SINGLE,
            ("params x", "nan inf"): PASSED_ON,
            ("x", "short0 long0"): MANY,
        },
    ),
    Call(
        "networks.pull_back",
        {"network": NETWORK, "params": THETA, "x": X, "residual": Y},
        {
            ("params", "nested single"): NETWORKS_OR_SINGLE,
            ("residual", "nested"): "several directions",
        },
    ),
    Call(
        "networks.jacobian",
        {"network": NETWORK, "params": THETA, "x": X},
        {("params", "nested single"): NETWORKS_OR_SINGLE, ("x", "short0 long0"): MANY},
    ),
]
# --- random_networks, replicas --------------------------------------------------------

J = random_networks.random_couplings(4, 0.3, 0)
STATES = _rng().standard_normal((4, 2))
RANDOM_NETWORKS = [
    Call(
        "random_networks.random_couplings",
        {"N": 4, "gamma": 0.3, "seed": 0, "diagonal": False},
        {("gamma", "negative zero"): IN_RANGE},
    ),
    Call(
        "random_networks.velocity",
        {"x": STATES, "J": J, "g": 1.5},
        {("x", "empty1 short1 long1"): REPLICAS, ("g", "zero"): NO_COUPLING},
    ),
    Call(
        "random_networks.speed_energy",
        {"x": STATES, "J": J, "g": 1.5},
        {("x", "empty1 short1 long1"): REPLICAS, ("g", "zero"): NO_COUPLING},
    ),
    Call(
        "random_networks.speed_gradient",
        {"x": STATES, "J": J, "g": 1.5},
        {("x", "empty1 short1 long1"): REPLICAS, ("g", "zero"): NO_COUPLING},
    ),
    Call(
        "random_networks.trajectory",
        {"J": J, "g": 1.5, "x0": STATES, "times": [0.0, 0.5], "dt": 0.1},
        {
            ("g", "zero"): NO_COUPLING,
            ("x0", "empty1 short1 long1"): REPLICAS,
            ("times", "short0"): MANY,
        },
    ),
    Call(
        "random_networks.langevin",
        {
            "J": J,
            "g": 1.5,
            "temperature": 0.1,
            "x0": STATES,
            "steps": 3,
            "seed": 0,
            "dt": 0.1,
            "friction": 0.5,
            "snapshots": [0, 3],
        },
        {
            ("g", "zero"): NO_COUPLING,
            ("temperature", "zero"): NO_NOISE,
            ("x0", "empty1 short1 long1"): REPLICAS,
        },
    ),
    Call(
        "random_networks.lyapunov_spectrum",
        {
            "J": J,
            "g": 1.5,
            "k": 2,
            "time": 1.0,
            "dt": 0.1,
            "warm_up": 1.0,
            "between": 5,
            "x0": STATES[:, 0],
            "seed": 0,
        },
        {("g", "zero"): NO_COUPLING, ("warm_up", "zero"): "no time before"},
    ),
    Call(
        "random_networks.fixed_points",
        {
            "J": J,
            "g": 1.5,
            "starts": STATES,
            "iterations": 20,
            "tolerance": 1e-11,
            "distinct": 1e-05,
        },
        {
            ("g", "zero"): NO_COUPLING,
            ("starts", "empty1 short1 long1"): "any number of starts, also none",
        },
    ),
    Call(
        "random_networks.plant",
        {"N": 4, "g": 0.8, "gamma": 0.3, "temperature": 0.5, "seed": 0},
        {("gamma", "negative zero"): IN_RANGE},
    ),
    Call(
        "replicas.order_parameters",
        {"g": 0.8, "gamma": 0.3, "temperature": 0.5},
        {
            ("g gamma temperature", "array"): BROADCAST,
            ("gamma", "negative zero"): IN_RANGE,
            (
                "temperature",
                "zero",
            ): "a limit; documented: some conjugates are NaN there",
        },
    ),
]


# --- resolved_block -------------------------------------------------------------------


@cache
def history():
    rng = _rng()
    shapes = ((3, 6), (2, 3), (2, 2), (3, 2), (6, 3))
    start = Network(*(0.7 * rng.standard_normal(shape) for shape in shapes))
    pairs = rng.standard_normal((2, 11, 6))
    return record(*pairs, start, 0.2, 2, 6, 0)


SPACE = Grid([-3.0] * 4, [3.0] * 4, 5)
BLOCKS = _rng().standard_normal((3, 4))
BLOCK = [
    *(
        Call(
            function,
            {"w": BLOCKS, "rest": history().rests[0]},
            {("w", "short0 long0"): MANY},
        )
        for function in (
            "resolved_block.block_loss",
            "resolved_block.block_gradient",
            "resolved_block.block_covariance",
        )
    ),
    Call(
        "resolved_block.evolve_block",
        {
            "density": _normal(PLANE),
            "grid": PLANE,
            "history": history(),
            "slices": 3,
            "substeps": 1,
            "row": 0,
            "noise": "full",
        },
        {("history", "start_none outer_ratio_none"): NOT_READ, ("row", "zero"): FIRST},
    ),
    Call(
        "resolved_block.marginal",
        {"density": _normal(PLANE), "grid": PLANE, "axis": 0, "refine": 2},
        {("axis", "zero"): FIRST},
    ),
    Call(
        "resolved_block.row_marginal",
        {"density": _normal(SPACE), "grid": SPACE, "row": 0},
        {("row", "zero"): FIRST},
    ),
    Call(
        "resolved_block.retrain_block",
        {
            "history": history(),
            "start": BLOCKS[:, :2],
            "seed": 0,
            "snapshots": [0, 6],
            "row": 0,
            "chunk": 2,
        },
        {
            ("history", "start_none outer_ratio_none"): NOT_READ,
            ("start", "short0 long0"): MANY,
            ("row", "zero"): FIRST,
        },
    ),
]


# --- scaling, steady_states -----------------------------------------------------------


def _measure(width, seeds):
    return np.array([width * (1 + seed % 7) for seed in seeds])


SCALING = [
    Call(
        "scaling.over_widths",
        {
            "measure": _measure,
            "widths": [4, 8],
            "networks": 3,
            "seed": 0,
            "chunk": 2,
            "jobs": 1,
        },
        {
            ("measure", "returns_nan"): "documented: passed on",
            ("jobs", "negative"): ALL_CORES,
        },
    ),
    Call(
        "scaling.slope",
        {
            "widths": [4.0, 8.0],
            "values": [[1.0, 2.0, 3.0], [2.0, 4.0, 5.0]],
            "statistic": np.median,
            "seed": 0,
        },
    ),
    Call(
        "steady_states.entropy_production",
        {"equation": FokkerPlanck(LINE, 0.5, drift=_back), "density": _normal(LINE)},
    ),
    Call(
        "steady_states.speed_density",
        {"grid": PLANE, "drift": _back, "temperature": 0.5},
    ),
    Call(
        "steady_states.masses_near",
        {"density": _normal(PLANE), "grid": PLANE, "points": [[0.0, 0.0], [1.0, 1.0]]},
    ),
]
# --- symmetric_layers -----------------------------------------------------------------

RATES = {"learning_rate": 0.1, "weight_decay": 0.2}
SPIRAL = {"start": [1.0, 0.5], "spherical_gradient_norm": 0.3, **RATES, "steps": 5}
SYMMETRIC_LAYERS = [
    Call(
        "symmetric_layers.decay_rate",
        {**RATES, "order": 2},
        {("weight_decay", "zero"): NO_DECAY, ("order", "zero"): FLOW},
    ),
    Call(
        "symmetric_layers.squared_norm_step",
        {"squared_norm": 1.5, "squared_gradient_norm": 0.3, **RATES},
        {
            ("squared_gradient_norm", "zero"): STATIONARY,
            ("weight_decay", "zero"): NO_DECAY,
        },
    ),
    Call(
        "symmetric_layers.squared_norm_velocity",
        {
            "squared_norm": 1.5,
            "squared_gradient_norm": 0.3,
            **RATES,
            "order": 2,
            "gradient_curvature": 0.1,
        },
        {
            ("squared_gradient_norm", "zero"): STATIONARY,
            ("weight_decay", "zero"): NO_DECAY,
            ("order", "zero"): FLOW,
            ("gradient_curvature", "negative zero"): "of either sign",
            ("gradient_curvature", "array"): BROADCAST,
        },
    ),
    Call(
        "symmetric_layers.effective_learning_rate",
        {"radius": 1.5, **RATES},
        {("weight_decay", "zero"): NO_DECAY},
    ),
    Call(
        "symmetric_layers.angular_update",
        {"gradient_norm": 0.3, "radius": 1.5, **RATES},
        {("gradient_norm", "zero"): STATIONARY, ("weight_decay", "zero"): NO_DECAY},
    ),
    Call(
        "symmetric_layers.equilibrium",
        {"spherical_gradient_norm": 0.3, **RATES, "order": 2},
    ),
    Call(
        "symmetric_layers.spiral_descent",
        {**SPIRAL},
        {("weight_decay", "zero"): NO_DECAY, ("steps", "zero"): NO_STEPS},
    ),
    Call(
        "symmetric_layers.spiral_field",
        {"squared_norm": 1.5, "spherical_gradient_norm": 0.3, **RATES, "order": 2},
        {("weight_decay", "zero"): NO_DECAY, ("order", "zero"): FLOW},
    ),
    Call(
        "symmetric_layers.spiral_flow",
        {**SPIRAL, "order": 2},
        {
            ("weight_decay", "zero"): NO_DECAY,
            ("steps", "zero"): NO_STEPS,
            ("order", "zero"): FLOW,
        },
    ),
]


# --- tangent_kernel, time steps, series and laws ----------------------------------


def _function(params, x):
    return torch.tanh(x @ params)


KERNEL = networks.jacobian(NETWORK, THETA, X)
ALL = (KERNEL @ KERNEL.T).numpy()
FROZEN = {
    "kernel": ALL[:3, :3],
    "targets": Y[:3],
    "f0": np.ones(4),
    "test_kernel": ALL[3:, :3],
}
SAMPLES = {"samples": [0, 2, 1], "learning_rate": 0.01, "noise": [0.0, 0.1, 0.2]}
TANGENT_KERNEL = [
    Call(
        "tangent_kernel.empirical",
        {"network": NETWORK, "params": THETA, "x1": X, "x2": X_TEST},
        {
            ("params", "nested single"): NETWORKS_OR_SINGLE,
            ("x1 x2", "short0 long0"): MANY,
        },
    ),
    Call(
        "tangent_kernel.empirical_of",
        {
            "function": _function,
            "params": torch.ones(2, dtype=torch.float64),
            "x1": torch.tensor(X),
            "x2": torch.tensor(X_TEST),
            "memory": 1000000.0,
        },
        {("x1 x2", "short0 long0"): MANY},
    ),
    Call(
        "tangent_kernel.infinite_width",
        {
            "x1": X,
            "x2": X_TEST,
            "depth": 2,
            "activation": "erf",
            "sigma_w": 1.0,
            "sigma_b": 0.1,
        },
        {
            ("x1 x2", "short0 long0"): MANY,
            ("x2", "none"): "documented: x1 again",
            ("sigma_b", "zero"): "no biases",
        },
    ),
    Call(
        "tangent_kernel.linear_dynamics",
        {**FROZEN, "times": [0.0, 1.0]},
        {
            ("kernel targets f0 test_kernel", "nested"): STACKED,
            ("times", "short0"): MANY,
        },
    ),
    Call(
        "tangent_kernel.linear_dynamics",
        {**FROZEN, "steps": [0, 2], "learning_rate": 0.01},
        {("kernel targets f0 test_kernel", "nested"): STACKED},
    ),
    Call(
        "tangent_kernel.sgd_schedule",
        {
            "points": 3,
            "samples": [0, 2, 1],
            "noise": [0.0, 0.1, 0.2],
            "snapshots": [0, 3],
        },
        {
            ("noise", "none"): "documented: no noise",
            ("snapshots", "none"): "documented: the last one",
        },
    ),
    Call(
        "tangent_kernel.linear_sgd",
        {**FROZEN, **SAMPLES, "snapshots": [0, 3]},
        {("kernel targets f0 test_kernel", "nested"): STACKED},
    ),
]
SERIES = torch.tensor(_rng().standard_normal((4, 3)))
LEVELS = (PLANE.points**2).sum(axis=1).reshape(PLANE.shape)
FACES = [face_rates(PLANE, i, (0.3,) * 3, LEVELS, _well, None) for i in (0, 1)]
GENERATOR = FokkerPlanck(LINE, 0.5, drift=_back).generator
STEPS = [
    Call("tracy_widom.tracy_widom", {"ensemble": "GUE"}),
    *(
        Call(
            f"tracy_widom.LimitLaw.{name}",
            {"self": tracy_widom("GUE"), "x": np.array([0.0, 1.0])},
            {
                ("x", "nested short0 long0 empty0"): "any shape",
                ("x", "nan"): NAN,
                ("x", "inf"): "the end of an axis",
            },
        )
        for name in ("cdf", "pdf")
    ),
    Call(
        "taylor_series.multiply",
        {"a": SERIES, "b": SERIES},
        {("a b", "single"): "types are promoted", ("a b", "nan inf huge"): NAN},
    ),
    *(
        Call(
            f"taylor_series.{name}",
            {"u": SERIES},
            {
                ("u", "nested short0 long0 short1 long1"): "any order and shape",
                ("u", "single"): "in single precision",
                ("u", "nan inf huge"): NAN,
            },
        )
        for name in (
            "exponential",
            "error_function",
            "hyperbolic_tangent",
            "gaussian_linear_unit",
            "rectifier",
        )
    ),
    Call(
        "time_stepping.lu_step",
        {"generator": GENERATOR, "dt": 0.1},
        {("dt", "zero"): "no step"},
        then=lambda step: step(_normal(LINE), False),
    ),
    Call(
        "time_stepping.strang_step",
        {"faces": FACES, "dt": 0.1},
        {("dt", "zero"): "no step"},
        then=lambda step: step(_normal(PLANE), False),
    ),
]
# --- training, weak_correlations ------------------------------------------------------

PROBLEM = {"network": NETWORK, "params": THETA, "x": X, "y": Y, "x_test": X_TEST}
TRAINING = [
    Call(
        "training.gradient_descent",
        {**PROBLEM, "learning_rate": 0.01, "steps": 3, "snapshots": [0, 3]},
        {
            ("params", "nested single"): NETWORKS_OR_SINGLE,
            ("x_test", "short0 long0"): MANY,
        },
    ),
    Call(
        "training.gradient_flow",
        {**PROBLEM, "times": [0.0, 0.5], "rtol": 1e-08, "atol": 1e-10},
        {
            ("params", "nested"): "several networks",
            ("x_test", "short0 long0"): MANY,
            ("times", "short0"): MANY,
        },
    ),
    Call(
        "training.sgd",
        {**PROBLEM, **SAMPLES, "snapshots": [0, 3]},
        {
            ("params", "nested single"): NETWORKS_OR_SINGLE,
            ("x_test", "short0 long0"): MANY,
        },
    ),
    Call(
        "weak_correlations.taylor_coefficients",
        {
            "network": NETWORK,
            "params": THETA,
            "x_train": X,
            "residual": Y,
            "x": X_TEST,
            "order": 2,
        },
        {
            ("params", "nested single"): NETWORKS_OR_SINGLE,
            ("residual", "nested"): "several directions",
            ("x", "short0 long0"): MANY,
            ("order", "zero"): "the outputs alone",
        },
    ),
    Call(
        "weak_correlations.correlation_tensor",
        {"network": NETWORK, "params": THETA, "x": X, "order": 2},
        {
            ("params", "single"): "low orders in single precision",
            ("x", "short0 long0"): MANY,
        },
    ),
    Call(
        "weak_correlations.derivative_norm",
        {"network": NETWORK, "params": THETA, "x": X[:2], "D": 1, "d": 1},
        {
            ("params", "nested single"): NETWORKS_OR_SINGLE,
            ("D", "zero"): "no free index",
        },
    ),
    Call(
        "weak_correlations.tangent_hierarchy",
        {
            "network": NETWORK,
            "params": THETA,
            "x_train": X,
            "y": Y,
            "x_test": X_TEST,
            "times": [0.0, 0.5],
            "order": 3,
        },
        {
            ("x_test", "none"): "documented: no test points",
            ("x_test", "short0 long0"): MANY,
            ("times", "short0"): MANY,
        },
    ),
]
CALLS = [
    *KPZ,
    *LANGEVIN,
    *MEAN_FIELD,
    *SMALL,
    *NETWORKS,
    *RANDOM_NETWORKS,
    *BLOCK,
    *SCALING,
    *SYMMETRIC_LAYERS,
    *TANGENT_KERNEL,
    *STEPS,
    *TRAINING,
]
