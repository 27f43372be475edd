"""Readiness: evidence becomes verdicts, and verdicts are kept where nobody but the evidence can make them pass."""
