"""Whether bytes are a program of abi.h, "Expressions": the check that the runtime makes before it runs one."""

from __future__ import annotations

import struct

from kpack.objfile import abi

__all__ = ["why_no_program"]

_NUMBERED = {abi.OP_PARAM: "parameter", abi.OP_SIZEOF: "parameter", abi.OP_CONSTEXPR: "constexpr"}
_JUMPS = (abi.OP_JUMP, abi.OP_JUMP_IF_ZERO)


def why_no_program(code: bytes, params: int, constexprs: int) -> str:
    """What is wrong with it, for a kernel of so many parameters and constexprs, or ""."""
    landings: dict[int, int] = {}  # how deep the stack is where jumps land
    depth, at = 0, 0
    while at < len(code):
        landed = landings.pop(at, depth)
        if depth >= 0 and landed != depth:
            return f"expected one depth of the stack at {at}, got {depth} and {landed}"
        depth = landed
        if depth < 0:
            return f"expected a jump to {at}, got none: it is never reached"
        op = code[at]
        size, pops, pushes = _shape(op)
        if size < 0 or at + 1 + size > len(code):
            return f"expected an opcode with its operand at {at}, got {code[at : at + 9].hex()}"
        if depth < pops:
            return f"expected {pops} values on the stack at {at}, got {depth}"
        depth += pushes - pops
        if depth > abi.EXPR_STACK:
            return f"expected a stack of at most {abi.EXPR_STACK} values, got more at {at}"
        number = struct.unpack_from("<H", code, at + 1)[0] if size == 2 else 0
        at += 1 + size
        if op == abi.OP_END:
            return _end(depth, rest=len(code) - at, open_jumps=len(landings))
        limit = constexprs if op == abi.OP_CONSTEXPR else params
        if op in _NUMBERED and number >= limit:
            return f"expected a {_NUMBERED[op]} below {limit}, got {number}"
        if op in _JUMPS:
            target = at + number
            if target >= len(code) or landings.setdefault(target, depth) != depth:
                return f"expected a jump to where the stack is {depth} deep, got one to {target}"
            depth = -1 if op == abi.OP_JUMP else depth
        if any(target < at for target in landings):
            return f"expected a jump to an opcode, got one into the operand before {at}"
    return "expected an end, got none"


def _end(depth: int, rest: int, open_jumps: int) -> str:
    if depth or rest or open_jumps:
        return f"expected one value at the end, got {depth + 1}, {rest} bytes behind it, and {open_jumps} jumps past it"
    return ""


def _shape(op: int) -> tuple[int, int, int]:
    """Bytes of its operand (-1: there is no such opcode), values that it takes, values that it leaves."""
    special = {
        abi.OP_END: (0, 1, 0),
        abi.OP_I8: (1, 0, 1),
        abi.OP_I64: (8, 0, 1),
        abi.OP_PARAM: (2, 0, 1),
        abi.OP_CONSTEXPR: (2, 0, 1),
        abi.OP_SIZEOF: (2, 0, 1),
        abi.OP_JUMP: (2, 0, 0),
        abi.OP_JUMP_IF_ZERO: (2, 1, 0),
    }
    if op in special:
        return special[op]
    if abi.OP_NEG <= op <= abi.OP_NEXT_POWER_OF_2:
        return 0, 1, 1
    return (0, 2, 1) if abi.OP_ADD <= op <= abi.OP_SHR else (-1, 0, 0)
