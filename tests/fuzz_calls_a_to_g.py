"""Calls that are right, for the modules from annealed to growing_surfaces."""

import numpy as np
from fuzzing import Call

from fpbook.finite_volumes import Grid

BROADCAST = "arguments are broadcast together"

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

CALLS: list[Call] = [*ANNEALED, *AUTOENCODER]
