"""Calls that are right, for the modules from kpz to weak_correlations."""

from fuzzing import Call

CALLS: list[Call] = []
