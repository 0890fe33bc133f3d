"""Predictions of networks, and their scores."""
