"""A server for development, tests and small installations answering as TensorFlow Serving."""
