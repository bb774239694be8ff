"""Work and usage in: Airflow, Prefect, Slurm, Kubernetes, Prometheus, SWF, WfFormat, tables."""
