"""A client for TensorFlow Serving, for the embedded server, and for exports on the disk.

Servers need only NumPy, grpcio, urllib3 and protobuf. TensorFlow, which takes seconds to import, is
loaded only for folders.
"""

from serving.client.asking import Client
from serving.client.failure import ServingError
from serving.client.signatures import Metadata, Signature, TensorSpec, VersionStatus

__all__ = ["Client", "Metadata", "ServingError", "Signature", "TensorSpec", "VersionStatus"]
