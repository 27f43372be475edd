"""Dagster's entry point: the code location."""

from finance_os.defs.location import build_defs
from finance_os.observability import logs, metrics

logs.configure()
metrics.start()

defs = build_defs()
"""The code location, assembled from the sources' declarations."""
