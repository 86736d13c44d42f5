"""Campaigns that attack edgeq, each the same for the same seed: `nox -s faults`."""
