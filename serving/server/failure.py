"""The error that clients see: a gRPC status, with an HTTP status for REST."""

import grpc
import tensorflow as tf
from grpc import StatusCode

HTTP_STATUS = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.CANCELLED: 499,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}
"""All others are 500."""

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class Failure(Exception):
    """A request that is answered with an error.

    Args:
        code: Status for gRPC.
        message: What went wrong, for the client.
    """

    def __init__(self, code: StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        return HTTP_STATUS.get(self.code, 500)

    @property
    def number(self) -> int:
        """The code as protocol buffers hold it."""
        return self.code.value[0]

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid(message: str) -> Failure:
    return Failure(StatusCode.INVALID_ARGUMENT, message)


def from_tensorflow(error: tf.errors.OpError) -> Failure:
    """What TensorFlow says is what the client gets, without what its Python puts before it."""
    message = error.message.removeprefix("Graph execution error:").lstrip()
    return Failure(_BY_NUMBER.get(error.error_code, StatusCode.UNKNOWN), message)
