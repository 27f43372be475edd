"""Alerts: failed checks and runs, stale evidence and grave exceptions, told once, and told again when they recover."""
