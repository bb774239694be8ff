"""Jobs of a Slurm cluster, read from its queue and its accounting again and again."""
