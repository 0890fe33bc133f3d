"""TensorFlow operations from raw bytes and text to tensors: in tf.data, eagerly and in exports."""
