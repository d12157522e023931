"""What is no argument of a kernel does not compile, and the compiler's one error is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import INCLUDE, attempt, need

PROGRAM = """
#include <kpack/kpack.hpp>
#include <string>
#include <vector>
KPACK_KERNEL(tk, scale);

struct Point {
  float x, y;
  void move();
};
enum Letter : char { A };
void function(int);
void (*pointer)(int);
float array[4], *device, **pointers;
Point *points;
void *untyped;
char text[5];

kpack::Status call(kpack::Op &op, kpack::Bound &bound, kpack::Stream stream) {
  return %s;
}
"""
ARRAY = "kpack: an array is memory of the program: pass a pointer to memory of the device"
FUNCTION = "kpack: a function or member is no kernel argument: pass a device pointer or a number"
OBJECT = "kpack: an object is no kernel argument: pass a device pointer, a number or text, or specialise"
ELEMENT = "kpack: no element type for this pointer"
NUMBER = "kpack: no kernel has a number of this type: convert it, to double or int64_t"
CHARACTER = "kpack: a character is no number: convert it, to int8_t or uint8_t"

WRONG = {
    "tk::scale(stream, device, array, 4)": ARRAY,
    "tk::scale(stream, static_cast<const float (&)[4]>(array))": ARRAY,
    "tk::scale(stream, kpack::ptr(array, kpack::DType::fp32))": ARRAY,
    "tk::scale(stream, kpack::TensorDescriptor(array, {4}))": ARRAY,
    "tk::scale(stream, kpack::TensorDescriptor(array, nullptr, 0))": ARRAY,
    "op(stream, array)": ARRAY,
    "bound(stream, array)": ARRAY,
    "tk::scale.pin(kpack::cuda_device(0), array).status()": ARRAY,
    "tk::scale.supports(kpack::cuda_device(0), array) ? KPK_OK : KPK_DRY": ARRAY,
    "tk::scale(stream, function)": FUNCTION,
    "tk::scale(stream, pointer)": FUNCTION,
    "tk::scale(stream, &Point::move)": FUNCTION,
    "tk::scale(stream, &Point::x)": FUNCTION,
    "tk::scale(stream, [] {})": OBJECT,
    "tk::scale(stream, Point())": OBJECT,
    "tk::scale(stream, std::string())": OBJECT,
    "tk::scale(stream, std::vector<float>(4))": OBJECT,
    "tk::scale(stream, points)": ELEMENT,
    "tk::scale(stream, kpack::TensorDescriptor(points, {4}))": ELEMENT,
    "tk::scale(stream, static_cast<wchar_t *>(nullptr))": ELEMENT,
    "tk::scale(stream, pointers)": "kpack: a pointer to pointers has no element type: pass kpack::ptr(p, ",
    "tk::scale(stream, untyped)": "kpack: a void* does not say its element type: pass kpack::ptr(p, ",
    "tk::scale(stream, 1.0L)": NUMBER,
    "tk::scale(stream, 'a')": CHARACTER,
    "tk::scale(stream, L'a')": CHARACTER,
    "tk::scale(stream, A)": "kpack: an enum of this underlying type is no number: convert it",
}  # fmt: skip
RIGHT = (
    'tk::scale(stream, device, nullptr, 4, 2.0f, true, text, "fast", kpack::DType::fp16)',
    "tk::scale(stream, &array[0], kpack::ptr(&array[0], kpack::DType::fp32), kpack::ptr(untyped, kpack::DType::i8))",
    "tk::scale(stream, kpack::TensorDescriptor(device, {4}), kpack::TensorDescriptor(&array[0], nullptr, 0))",
    "tk::scale(stream, kpack::TensorDescriptor(kpack::ptr(untyped, kpack::DType::fp16), {4}))",
)


def compiled(compiler: str, call: str, folder: Path) -> tuple[int, list[str], str]:
    """The exit status, the lines that are errors, and all that the compiler says of a call."""
    need(compiler)
    (folder / "app.cc").write_text(PROGRAM % call)
    options = ("-std=c++17", "-Wall", "-Werror", f"-I{INCLUDE}", "-fsyntax-only")
    done = attempt("env", "LC_ALL=C", compiler, *options, folder / "app.cc")
    return done.returncode, [line for line in done.stderr.splitlines() if " error: " in line], done.stderr


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("call", WRONG)
def test_one_error_says_what_is_wrong_and_what_to_pass(tmp_path: Path, compiler: str, call: str) -> None:
    status, errors, said = compiled(compiler, call, tmp_path)
    assert status != 0
    assert len(errors) == 1, said
    assert WRONG[call] in errors[0]
    assert "app.cc:" in said  # and where


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("call", RIGHT)
def test_what_is_an_argument_compiles(tmp_path: Path, compiler: str, call: str) -> None:
    assert compiled(compiler, call, tmp_path) == (0, [], "")
