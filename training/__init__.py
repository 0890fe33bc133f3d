"""What `compile` and `fit` lack: loop, resume, precision, strategies, report."""
