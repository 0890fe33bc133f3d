"""A server for development, tests and small installations with TensorFlow Serving's interface."""
