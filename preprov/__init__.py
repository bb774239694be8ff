"""preprov: warm the right machines before the batch wave starts."""

__version__ = "0.1.0"
