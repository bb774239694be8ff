"""Capacity out: providers that list, launch, hibernate, stop and end nodes (local, AWS, GCP, Azure, Terraform)."""
