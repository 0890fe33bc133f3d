"""Keras callbacks that Keras lacks or does worse."""
