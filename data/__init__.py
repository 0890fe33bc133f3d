"""Data of each kind, from user files, TensorFlow Datasets or a built-in sample to tf.data."""
