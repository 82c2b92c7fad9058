"""Calls that are right, for the modules from annealed to growing_surfaces."""

from fuzzing import Call

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

CALLS: list[Call] = [*ANNEALED]
