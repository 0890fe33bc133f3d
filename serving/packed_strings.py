"""Strings in the `tensor_content` of a TensorProto, as TensorFlow packs them."""


def unpacked(content: bytes, count: int) -> list[bytes]:
    """Reads strings: the length of each as a varint, then the bytes of all.

    See EncodeStringList in TensorFlow's core/platform/tensor_coding.cc.

    Args:
        content: The bytes.
        count: How many strings.

    Raises:
        ValueError: There are other bytes than these strings need.

    Example:
        >>> unpacked(bytes([2, 0, 1]) + b"abc", 3)
        [b'ab', b'', b'c']
    """
    lengths, offset = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if offset == len(content) or shift > 28:
                raise ValueError(f"{count} strings have lengths of at most 5 bytes each.")
            byte = content[offset]
            length |= (byte & 127) << shift
            offset, shift = offset + 1, shift + 7
            if byte < 128:
                break
        lengths.append(length)
    if offset + sum(lengths) != len(content):
        raise ValueError(f"{count} strings take {offset + sum(lengths)} bytes, not {len(content)}.")
    strings = []
    for length in lengths:
        strings.append(content[offset : offset + length])
        offset += length
    return strings
