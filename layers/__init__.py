"""Keras layers that Keras lacks or does worse."""
