"""What went wrong, in one line."""

import re

# TensorFlow wraps the reason in where it happened in the graph, which means nothing to a client.
_WRAPPING = re.compile(r"Graph execution error:|Detected at node|<stack traces|\d+ root error|\[\[")
_NUMBERED = re.compile(r"^\(\d+\) [A-Z_ ]+:\s*")


def reason(error: BaseException) -> str:
    """Returns the line of an error's message that says why.

    Example:
        >>> reason(ValueError("Graph execution error:\\n\\nnot a PNG\\n\\t [[{{node decode}}]]"))
        'not a PNG'
    """
    # Operations' errors add to `message` what only matters in Python.
    lines = str(getattr(error, "message", None) or error).splitlines()
    lines = [_NUMBERED.sub("", line.strip()) for line in lines]
    meaningful = [line for line in lines if line and not _WRAPPING.match(line)]
    return meaningful[0].split(" [[{{")[0] if meaningful else type(error).__name__
