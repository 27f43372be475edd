"""Backfills that are killed, cut off and crossed at random moments, and must end as if nothing had happened."""
