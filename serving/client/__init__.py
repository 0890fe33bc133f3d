"""A client for TensorFlow Serving, for the embedded server, and for exports on the disk.

NumPy, grpcio, urllib3 and protobuf are enough for servers; TensorFlow, which takes seconds to
import, is loaded for folders alone.
"""

from serving.client.asking import Client
from serving.client.failure import ServingError
from serving.client.signatures import Metadata, Signature, TensorSpec, VersionStatus

__all__ = ["Client", "Metadata", "ServingError", "Signature", "TensorSpec", "VersionStatus"]
