"""A model of one node, kpack::Softmax, without the onnx package: its protobuf messages, field by field.

With the package it is `onnx.helper.make_node("Softmax", ["x"], ["y"], domain="kpack")` and a `make_model` around it.
"""

from __future__ import annotations

FLOAT, FLOAT16, DOUBLE = 1, 10, 11  # onnx.TensorProto.DataType


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a message: a number below 128, or text, or another message."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    payload = value.encode() if isinstance(value, str) else value
    assert len(payload) < 128, "one byte for the length is enough here"
    return bytes([number << 3 | 2, len(payload)]) + payload


def value_info(name: str, element_type: int) -> bytes:
    rows, columns = (field(1, field(2, symbol)) for symbol in ("rows", "columns"))
    tensor = field(1, element_type) + field(2, rows + columns)
    return field(1, name) + field(2, field(1, tensor))


def softmax_model(element_type: int = FLOAT) -> bytes:
    """ModelProto of y = kpack::Softmax(x), matrices of any size."""
    node = field(1, "x") + field(2, "y") + field(3, "softmax") + field(4, "Softmax") + field(7, "kpack")
    inputs, outputs = field(11, value_info("x", element_type)), field(12, value_info("y", element_type))
    graph = field(1, node) + field(2, "softmax") + inputs + outputs
    opsets = field(8, field(1, "") + field(2, 17)) + field(8, field(1, "kpack") + field(2, 1))
    # As the graph may be longer than 127 bytes, its length takes two.
    head = bytes([7 << 3 | 2, len(graph) & 127 | 128, len(graph) >> 7])
    return field(1, 8) + head + graph + opsets
