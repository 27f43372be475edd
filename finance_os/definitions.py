"""Dagster's entry point: the code location."""

from finance_os.defs.export_sensor import STAYS_SECONDS
from finance_os.defs.location import build_defs
from finance_os.observability import logs, metrics

logs.configure()
metrics.start()

defs = build_defs(ticks_stay=STAYS_SECONDS)
"""The code location, assembled from the sources' declarations."""
