"""Tests of the page's panels."""
