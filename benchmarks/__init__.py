"""Speed and memory of every kernel, next to the error reached: ``make benchmark``."""
