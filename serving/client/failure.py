"""The error for requests that a server refuses or does not answer."""


class ServingError(Exception):
    """A request that was not answered.

    Args:
        code: Name of a gRPC status, such as `NOT_FOUND`.
        message: The server's message.
    """

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
