"""Tests of alerts: what raises them, and how they are delivered."""
