"""Guards and grids: traced, parsed, evaluated and compiled alike, with Python's meaning."""

from __future__ import annotations

import functools
import random
import struct

import pytest

import kpack
from kpack.errors import SpecError
from kpack.expr import Expr, const, implies, parameters_of, trace, trace_grid
from kpack.objfile import abi

NAMES = ("a", "b", "c")
PYTHON = {"cdiv": kpack.cdiv, "next_power_of_2": kpack.next_power_of_2}


class Fault(Exception):
    """The host's evaluator would refuse the call."""


def run(code: bytes, params: list[int]) -> int:
    """The bytecode of abi.h, read as its comments say and in the plainest way."""
    stack: list[int] = []
    at = 0
    binary = {
        abi.OP_ADD: lambda x, y: x + y,
        abi.OP_SUB: lambda x, y: x - y,
        abi.OP_MUL: lambda x, y: x * y,
        abi.OP_FLOORDIV: lambda x, y: x // y,
        abi.OP_MOD: lambda x, y: x % y,
        abi.OP_CDIV: lambda x, y: -(-x // y),
        abi.OP_MIN: min,
        abi.OP_MAX: max,
        abi.OP_EQ: lambda x, y: x == y,
        abi.OP_NE: lambda x, y: x != y,
        abi.OP_LT: lambda x, y: x < y,
        abi.OP_LE: lambda x, y: x <= y,
        abi.OP_GT: lambda x, y: x > y,
        abi.OP_GE: lambda x, y: x >= y,
        abi.OP_AND: lambda x, y: x & y,
        abi.OP_OR: lambda x, y: x | y,
        abi.OP_XOR: lambda x, y: x ^ y,
        abi.OP_SHL: lambda x, y: x << min(y, 200),
        abi.OP_SHR: lambda x, y: x >> y,
    }
    unary = {
        abi.OP_NEG: lambda x: -x,
        abi.OP_NOT: lambda x: not x,
        abi.OP_ABS: abs,
        abi.OP_NEXT_POWER_OF_2: lambda x: 1 << max(x - 1, 0).bit_length() if x >= 0 else 1 << 64,
    }
    while True:
        op = code[at]
        at += 1
        if op == abi.OP_END:
            assert at == len(code) and len(stack) == 1
            return stack[0]
        if op == abi.OP_I8:
            stack.append(struct.unpack_from("<b", code, at)[0])
            at += 1
        elif op == abi.OP_I64:
            stack.append(struct.unpack_from("<q", code, at)[0])
            at += 8
        elif op == abi.OP_PARAM:
            stack.append(params[struct.unpack_from("<H", code, at)[0]])
            at += 2
        elif op in (abi.OP_JUMP, abi.OP_JUMP_IF_ZERO):
            skip = struct.unpack_from("<H", code, at)[0]
            at += 2
            if op == abi.OP_JUMP or stack.pop() == 0:
                at += skip
        else:
            try:
                operands = [stack.pop()] if op in unary else [stack.pop(), stack.pop()][::-1]
                value = int((unary.get(op) or binary[op])(*operands))
            except (ZeroDivisionError, ValueError) as error:
                raise Fault from error
            if not -(2**63) <= value < 2**63:
                raise Fault
            stack.append(value)
        assert len(stack) <= abi.EXPR_STACK


def random_text(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.15:
        return rng.choice([*NAMES, *NAMES, str(rng.choice([0, 1, 2, 3, 7, 16, 64, 127, 128, 1000]))])

    def part() -> str:
        return random_text(rng, depth - 1)

    kind = rng.randrange(10)
    if kind < 4:
        return f"({part()} {rng.choice('+ - * // % & | ^'.split())} {part()})"
    if kind == 4:
        return f"({part()} {rng.choice(['<<', '>>'])} {rng.randrange(6)})"
    if kind == 5:
        return f"({part()} {rng.choice('< <= > >= == !='.split())} {part()})"
    if kind == 6:
        return f"({part()} {rng.choice(['and', 'or'])} {part()})"
    if kind == 7:
        return f"({part()} if {part()} else {part()})"
    if kind == 8:
        return rng.choice(
            [
                f"(-{part()})",
                f"(not {part()})",
                f"abs({part()})",
                f"next_power_of_2({part()})",
                f"(~{part()})",
            ]
        )
    return f"{rng.choice(['min', 'max', 'cdiv'])}({part()}, {part()})"


def outcome(function, *arguments):
    """The value, or the class of the error that the host also refuses."""
    try:
        return int(function(*arguments))
    except (ZeroDivisionError, ValueError, OverflowError, Fault):
        return "error"


@pytest.mark.parametrize("seed", range(8))
def test_text_tracing_and_bytecode_mean_what_python_means(seed):
    rng = random.Random(seed)
    errors = 0
    for _ in range(150):
        text = random_text(rng, 4)
        parsed = trace(text, NAMES)
        code = parsed.code({name: index for index, name in enumerate(NAMES)})
        lambda_ = eval(f"lambda a, b, c: {text}", dict(PYTHON))
        try:
            traced: Expr | None = trace(lambda_, NAMES)
        except SpecError as error:
            # Too many paths, or a path on which constants alone fail.
            assert any(word in str(error) for word in ("paths", "ZeroDivisionError", "ValueError"))
            traced = None
        for _ in range(6):
            values = [rng.choice([-70, -3, -1, 0, 1, 2, 5, 16, 63, 300]) for _ in NAMES]
            named = dict(zip(NAMES, values, strict=True))
            expected = outcome(lambda_, *values)
            errors += expected == "error"
            assert outcome(parsed.evaluate, named) == expected, (text, named)
            assert outcome(run, code, values) == expected, (text, named)
            assert outcome(trace(str(parsed), NAMES).evaluate, named) == expected, (text, str(parsed))
            if traced is not None:
                assert outcome(traced.evaluate, named) == expected, (text, str(traced), named)
            folded = parsed.fold({"a": values[0], "c": values[2]})
            assert folded.names() <= {"b"}
            assert outcome(folded.evaluate, {"b": values[1]}) == expected, (text, named)
    assert errors < 8 * 150 * 6 / 4


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        (lambda a, b: a // b, (-7, 2), -4),
        (lambda a, b: a % b, (-7, 2), 1),
        (lambda a, b: a % b, (7, -2), -1),
        (lambda a, b: kpack.cdiv(a, b), (7, 2), 4),
        (lambda a, b: kpack.cdiv(7, b), (0, -2), -3),
        (lambda a, b: (a + b - 1) // b, (7, 2), 4),
        (lambda a, b: min(a, b, 3), (7, 5), 3),
        (lambda a, b: max(a, b), (7, 5), 7),
        (lambda a, b: 1 if a <= b < 10 else 2, (3, 9), 1),
        (lambda a, b: not (a and b), (3, 0), 1),
        (lambda a, b: divmod(a, b)[1] + 0 * divmod(5, a)[0], (-7, 4), 1),
        (lambda a, b: a in (1, 5, 7), (7, 0), 1),
        (lambda a, b: kpack.next_power_of_2(a), (0, 0), 1),
        (lambda a, b: kpack.next_power_of_2(a), (1025, 0), 2048),
        (lambda a, b: sum(a * i for i in range(4)), (3, 0), 18),
        (lambda a, b: True, (0, 0), 1),
        (functools.partial(lambda k, a, b: a * k + b, 10), (4, 2), 42),
        ("a < b < 10", (3, 9), 1),
        ("a if b else -a", (3, 0), -3),
        ("~a & 0xff", (1, 0), 254),
        ("-9223372036854775808 + a", (1, 0), -(2**63) + 1),
        ("a\n  + b", (3, 4), 7),
    ],
)
def test_a_traced_source_evaluates_as_python_would(source, values, expected):
    expr = trace(source, ("a", "b"))
    assert expr.evaluate({"a": values[0], "b": values[1]}) == expected
    assert run(expr.code({"a": 0, "b": 1}), list(values)) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (lambda a: a / 2, "true division"),
        ("a / 2", "true division"),
        (lambda a: a * 0.5, "got 0.5"),
        ("a * 0.5", "got '0.5'"),
        (lambda a: a**2, "got a power"),
        ("2 ** a", "got a power"),
        (lambda a: len(range(a)), "the number itself"),
        (lambda a: float(a), "conversion to float"),
        (lambda meta: meta["BLOCK"], "not `meta['BLOCK']`"),
        (lambda a, unknown: a, "got 'unknown'"),
        ("alpha", "got 'alpha'"),
        ("foo(a)", "got 'foo(a)'"),
        ("min(a)", "two or more"),
        ("cdiv(a)", "expected 2 arguments, got 1"),
        ("a +", "expected an expression"),
        ("[a]", "got '[a]'"),
        ("a in b", "got 'a in b'"),
        (lambda *args: 1, "'*args'"),
        (lambda a: "x", "got 'x'"),
        (lambda a: None, "got None"),
        (lambda a: {}[a], "unhashable"),
        (lambda a: (a, a), "expected one value, got 2"),
        (lambda a: sum(1 for i in range(9) if a >> i & 1), "at most 64 paths"),
        (lambda a: 1 // 0, "ZeroDivisionError"),
        (1.5, "got 1.5"),
        (2**70, "does not fit int64"),
        (str(2**63), "does not fit int64"),
    ],
)
def test_what_is_no_integer_expression_is_refused_with_the_reason(source, reason):
    with pytest.raises(SpecError) as raised:
        trace(source, ("a", "meta", "b", "beta"))
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("n * sizeof(T)", "n * sizeof(T)"),
        (lambda n, T: n * kpack.sizeof(T), "n * sizeof(T)"),
        (lambda n, x_ptr: kpack.sizeof(x_ptr) * n, "sizeof(x_ptr) * n"),
        (lambda T: kpack.sizeof(T) if kpack.sizeof(T) > 2 else 2, "max(2, sizeof(T))"),
        ("n * sizeof(fp32)", "n * 4"),
        (lambda n: n * kpack.sizeof("bf16"), "n * 2"),
    ],
)
def test_sizeof_is_the_bytes_of_one_element(source, text):
    expr = trace(source, ("n",), ("T", "x_ptr"))
    assert str(expr) == text
    assert expr.names() <= {"n"}
    for size in (1, 2, 4, 8):
        values = {"n": 10}, {"T": size, "x_ptr": size}
        assert expr.evaluate(*values) == eval(
            text.replace("sizeof(T)", "S").replace("sizeof(x_ptr)", "S"), {"n": 10, "S": size}
        )
        assert expr.fold({}, values[1]).evaluate({"n": 10}) == expr.evaluate(*values)
    assert str(expr.fold({}, {"T": "x_ptr"})) == text.replace("(T)", "(x_ptr)")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("T + 1", "expected an integer, got 'T'; sizeof(T) is the bytes of one element"),
        (lambda T: T + 1, "expected an integer, got 'T'; kpack.sizeof(T) is the bytes of one element"),
        (lambda T: 1 + T, "kpack.sizeof(T)"),
        (lambda T: T, "kpack.sizeof(T)"),
        (lambda T: 1 if T else 2, "kpack.sizeof(T)"),
        (lambda T: T.itemsize, "kpack.sizeof(T)"),
        ("sizeof(n)", "sizeof: expected a pointer of the call, a type variable or a type: T x_ptr i1"),
        ("sizeof(fp33)", "got 'fp33'; did you mean 'fp32'?"),
        ("sizeof(T, T)", "expected a call of"),
        ("sizeof(T + 1)", "expected a call of"),
        (lambda n: kpack.sizeof(n), "sizeof: expected a pointer of the call"),
        (lambda n: kpack.sizeof("T"), "sizeof: expected a pointer of the call"),
    ],
)
def test_what_has_no_size_is_refused(source, reason):
    with pytest.raises(SpecError) as raised:
        trace(source, ("n",), ("T", "x_ptr"))
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("given", "then", "follows"),
    [
        (None, None, True),
        ("n <= 4", None, True),
        (None, "n <= 4", False),
        ("n <= 4", "n <= 4", True),
        ("n <= 4", "n < 8", True),
        ("n < 4", "n <= 3", True),
        ("n <= 4", "n < 4", False),
        ("n == 4", "n >= 2", True),
        ("4 >= n", "n <= 5", True),
        ("n >= 4", "n <= 4", False),
        ("n <= 4", "m <= 4", False),
        ("n <= 4 and m > 2", "n <= 8", True),
        ("n <= 4 and m > 2", "n <= 8 and m > 1", True),
        ("n <= 4", "n <= 8 and m > 1", False),
        ("n <= 4 or n == 7", "n <= 8", True),
        ("n <= 4 or n == 9", "n <= 8", False),
        ("n <= 4", "n <= 8 or m > 1", True),
        ("n % 4 == 0", "n % 2 == 0", False),
    ],
)
def test_what_follows_from_bounds_is_said(given, then, follows):
    def read(text):
        return trace(text, ("n", "m")) if text else None

    assert implies(read(given), read(then)) is follows
    if follows and given and then:
        for n in range(-1, 12):
            for m in range(4):
                values = {"n": n, "m": m}
                assert not read(given).evaluate(values) or read(then).evaluate(values)


def test_a_loop_that_waits_for_a_symbolic_value_ends():
    def endless(a):
        while a + 1 > 0:
            a = a + 1
        return a

    with pytest.raises(SpecError, match="at most 64 paths"):
        trace(endless, ("a",))


@pytest.mark.parametrize(
    ("text", "values", "error"),
    [
        ("a * a", {"a": 2**32}, OverflowError),
        ("-a", {"a": -(2**63)}, OverflowError),
        ("abs(a)", {"a": -(2**63)}, OverflowError),
        ("a // -1", {"a": -(2**63)}, OverflowError),
        ("1 << a", {"a": 63}, OverflowError),
        ("1 << a", {"a": 10**18}, OverflowError),
        ("1 << a", {"a": -1}, ValueError),
        ("0 << a", {"a": -1}, ValueError),
        ("next_power_of_2(a)", {"a": 2**62 + 1}, OverflowError),
        ("next_power_of_2(a)", {"a": -1}, ValueError),
        ("1 // a", {"a": 0}, ZeroDivisionError),
        ("a", {"a": 2**63}, OverflowError),
    ],
)
def test_a_result_outside_int64_is_an_error(text, values, error):
    with pytest.raises(error):
        trace(text, ("a",)).evaluate(values)


@pytest.mark.parametrize(
    ("text", "value", "expected"), [("0 << a", 10**18, 0), ("1 >> a", 10**18, 0), ("-1 >> a", 10**18, -1)]
)
def test_a_shift_may_be_wide_where_the_result_fits(text, value, expected):
    assert trace(text, ("a",)).evaluate({"a": value}) == expected


def test_folding_keeps_an_error_for_the_call():
    folded = trace("1 // a", ("a",)).fold({"a": 0})
    with pytest.raises(ZeroDivisionError):
        folded.evaluate({})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (lambda n, B: n <= B, "n <= B"),
        (lambda n, B: n <= B and n > 0, "n <= B and n > 0"),
        (lambda n, B: n <= B or n > 9, "n <= B or n > 9"),
        (lambda n, B: max(n, B), "max(n, B)"),
        (lambda n, B: min(n, 4), "min(n, 4)"),
        (lambda n, B: not n < B, "not n < B"),
        (lambda n, B: kpack.cdiv(n, B) - (n - 1), "cdiv(n, B) - (n - 1)"),
        (lambda n, B: -(n // B) * 2, "-(n // B) * 2"),
        (lambda n, B: n if B else 2, "n if B else 2"),
    ],
)
def test_a_traced_lambda_reads_as_it_was_written(source, text):
    assert str(trace(source, ("n", "B"))) == text


def test_a_default_keeps_a_value_of_the_surroundings():
    source = lambda n, block=64: (n + block - 1) // block  # noqa: E731
    assert parameters_of(source) == ("n",)
    assert trace(source, ("n",)).evaluate({"n": 65}) == 2


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (lambda n, m: (n, m + 1), (3, 5)),
        (lambda n: (n,), (3,)),
        (lambda n: n, (3,)),
        ("n, m, 1", (3, 4, 1)),
        ("cdiv(n, 2)", (2,)),
        (("n", lambda m: m), (3, 4)),
        (7, (7,)),
        (lambda n, m: (n, 1) if n < m else (m, 2), (3, 1)),
    ],
)
def test_a_grid_has_one_to_three_dimensions(source, expected):
    grid = trace_grid(source, ("n", "m"))
    assert tuple(part.evaluate({"n": 3, "m": 4}) for part in grid) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ((), "got 0"),
        ("1, 2, 3, 4", "got 4"),
        (lambda n: (n, 1) if n else (n,), "same dimensions"),
    ],
)
def test_a_grid_of_another_shape_is_refused(source, reason):
    with pytest.raises(SpecError, match=reason):
        trace_grid(source, ("n",))


def test_names_come_in_the_order_of_their_use():
    assert parameters_of("cdiv(n_rows, min(B, 4)) + n_rows + C") == ("n_rows", "B", "C")
    assert parameters_of(lambda y, x: x) == ("y", "x")
    assert parameters_of(("b + a", lambda c, a: 1)) == ("b", "a", "c")
    assert parameters_of(3) == ()


def test_an_expression_too_deep_for_the_hosts_stack_is_refused():
    deep = functools.reduce(lambda inner, _: f"1 + ({inner})", range(abi.EXPR_STACK), "a * 2")
    with pytest.raises(SpecError, match="a stack of at most 32"):
        trace(deep, ("a",)).code({"a": 0})
    shallow = functools.reduce(lambda inner, _: f"({inner}) + 1", range(abi.EXPR_STACK), "a")
    assert run(trace(shallow, ("a",)).code({"a": 0}), [1]) == abi.EXPR_STACK + 1


def test_a_constant_takes_two_bytes_where_it_can():
    assert const(-128).code({}) == bytes((abi.OP_I8, 0x80, abi.OP_END))
    assert len(const(128).code({})) == 10
