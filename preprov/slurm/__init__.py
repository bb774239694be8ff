"""What Slurm says and is told, as values: its commands, its REST service and their JSON of 22.05 and newer."""
