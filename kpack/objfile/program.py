"""Whether bytes are a program of abi.h, "Expressions": the check that the runtime makes before it runs one."""

from __future__ import annotations

import struct

from kpack.objfile import abi

__all__ = ["why_no_program"]

_MOST_OPEN_JUMPS = 256  # which the runtime keeps in mind
_REACHED_BY_JUMPS = -1  # the depth behind a jump
_SPECIAL = {  # bytes of the operand, values that are taken, values that are left
    abi.OP_END: (0, 1, 0),
    abi.OP_I8: (1, 0, 1),
    abi.OP_I64: (8, 0, 1),
    abi.OP_PARAM: (2, 0, 1),
    abi.OP_CONSTEXPR: (2, 0, 1),
    abi.OP_SIZEOF: (2, 0, 1),
    abi.OP_JUMP: (2, 0, 0),
    abi.OP_JUMP_IF_ZERO: (2, 1, 0),
}


def why_no_program(code: bytes, params: int, constexprs: int) -> str:
    """What is wrong with it, for a kernel of so many parameters and constexprs, or "". It may be followed by others."""
    jumps: list[tuple[int, int]] = []  # open ones: where they land, and how deep the stack is then
    depth, at = 0, 0
    while at < len(code):
        if any(target < at for target, _ in jumps):
            return f"expected jumps to opcodes, got one into the operand before {at}"
        ways = {deep for target, deep in jumps if target == at} | {depth} - {_REACHED_BY_JUMPS}
        if len(ways) != 1:
            return f"expected one depth of the stack at {at}, got {sorted(ways) or 'no way there'}"
        (depth,) = ways
        jumps = [jump for jump in jumps if jump[0] != at]
        op, here, at = code[at], at, at + 1
        shape = _shape(op)
        if shape is None or at + shape[0] > len(code):
            return f"expected an opcode with its operand at {here}, got {code[here : here + 9].hex()}"
        operand_bytes, pops, pushes = shape
        if depth < pops:
            return f"expected {pops} values on the stack at {here}, got {depth}"
        depth += pushes - pops
        if depth > abi.EXPR_STACK:
            return f"expected at most {abi.EXPR_STACK} values on the stack, got more at {here}"
        if op == abi.OP_END:
            fine = depth == 0 and not jumps
            return (
                ""
                if fine
                else f"expected one value at the end, got {depth + 1} and {len(jumps)} jumps past it"
            )
        number = struct.unpack_from("<H", code, at)[0] if operand_bytes == 2 else 0
        at += operand_bytes
        if op in (abi.OP_PARAM, abi.OP_SIZEOF) and number >= params:
            return f"expected a parameter below {params}, got {number}"
        if op == abi.OP_CONSTEXPR and number >= constexprs:
            return f"expected a constexpr below {constexprs}, got {number}"
        if op in (abi.OP_JUMP, abi.OP_JUMP_IF_ZERO):
            if at + number >= len(code) or len(jumps) == _MOST_OPEN_JUMPS:
                return f"expected a jump to before {len(code)}, got one to {at + number}, the {len(jumps) + 1}th open"
            jumps.append((at + number, depth))
            depth = _REACHED_BY_JUMPS if op == abi.OP_JUMP else depth
    return "expected an end, got none"


def _shape(op: int) -> tuple[int, int, int] | None:
    if op in _SPECIAL:
        return _SPECIAL[op]
    if abi.OP_NEG <= op <= abi.OP_NEXT_POWER_OF_2:
        return 0, 1, 1
    return (0, 2, 1) if abi.OP_ADD <= op <= abi.OP_SHR else None
