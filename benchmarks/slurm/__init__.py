"""Nights on a real Slurm, with and without preprov: `python -m benchmarks.slurm`."""
