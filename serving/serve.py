"""The command `serve`."""

from typing import Annotated

import tyro

from serving.quiet import quiet
from serving.server.flags import Flags, with_values

__all__ = ["main", "with_values"]


def main(
    flags: Annotated[Flags, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff],
) -> int:
    """Serve models over gRPC and REST, with TensorFlow Serving's interface and flags."""
    # TensorFlow takes seconds to import, and `--help` does not need it.
    with quiet():
        from serving.server import process

    return process.main(flags)
