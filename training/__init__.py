"""The engine: loop, optimizers, checkpoint, strategies."""
