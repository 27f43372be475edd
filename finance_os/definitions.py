"""Dagster's entry point: the code location."""

from finance_os.defs.location import build_defs

defs = build_defs()
