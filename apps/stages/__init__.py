"""The stages of `alignment`, each of them a run of its own."""
