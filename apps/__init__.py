"""Task applications, one script each; `hornbook apps` lists them."""

import os

# Before TensorFlow is imported, which else fills the screen.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
