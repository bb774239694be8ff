"""Warm nodes handed to work: local tasks, Slurm, Kubernetes, Airflow, Prefect."""
