"""Version the parameters of machine-learning models inside plain Git."""

__version__ = "0.1.0"
