"""Shipped for authors of adapters: the contract suites and the HTTP fakes of the clouds."""
