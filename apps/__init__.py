"""Task applications, one script each; `python -m apps` lists them."""
