"""Tests of the vendors on localhost."""
