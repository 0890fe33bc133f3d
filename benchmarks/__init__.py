"""Measured comparisons, each a script that prints a table."""
