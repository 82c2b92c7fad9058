"""Shared code of the book *The Physics of Neural-Network Training*.

Modules are imported one by one (``from fpbook import claims``), so that the
numpy and scipy part works where torch is not installed.
"""

__version__ = "0.1.0"
