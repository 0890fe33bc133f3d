"""The one error for whatever a server says no to, or does not say."""


class ServingError(Exception):
    """A request that was not answered.

    Args:
        code: Name of a gRPC status, such as `NOT_FOUND`.
        message: What the server says.
    """

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
