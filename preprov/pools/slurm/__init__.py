"""Nodes of a Slurm cluster: Slurm owns their counts, another provider makes the machines behind them."""
