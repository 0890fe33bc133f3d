"""Task applications, one script each; `hornbook apps` lists them."""

import os

# This must come before TensorFlow is imported, which would otherwise fill the screen.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
