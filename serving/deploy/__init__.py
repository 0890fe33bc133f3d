"""Files that put exported models into TensorFlow Serving: Docker Compose, Kubernetes, KServe."""
