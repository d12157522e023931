"""abi.py says what abi.h says: a C compiler is the judge."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tools import need

from kpack.objfile import abi

INCLUDE = Path(__file__).parents[2] / "csrc" / "include"
HEADER = INCLUDE / "kpack" / "abi.h"

C_TYPES = {
    "u8": "uint8_t",
    "u16": "uint16_t",
    "u32": "uint32_t",
    "u64": "uint64_t",
    "i64": "int64_t",
    "ref": "kpk_ref",
    "table": "kpk_table",
}


def header_text() -> str:
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)


def header_constants() -> list[str]:
    enums = [name for body in re.findall(r"enum \{(.*?)\}", header_text(), re.S)
             for name in re.findall(r"KPK_\w+", body)]  # fmt: skip
    return enums + re.findall(r"^#define (KPK_\w+) \S", header_text(), re.M)


def header_structs() -> list[str]:
    return re.findall(r"typedef struct (\w+)", header_text())


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the compiler says of every constant, size and offset, and of KPK_CLASS."""
    need("cc")
    lines = [f'P("{name}", {name});' for name in header_constants()]
    for struct in abi.STRUCTS:
        lines.append(f'P("{struct.name}", sizeof({struct.name}));')
        lines.append(f'P("{struct.name}:align", _Alignof({struct.name}));')
        for field in struct.fields:
            member = f"(({struct.name} *)0)->{field.name}"
            lines.append(f'P("{struct.name}.{field.name}", offsetof({struct.name}, {field.name}));')
            lines.append(f'P("{struct.name}.{field.name}:size", sizeof({member}));')
            element = f"{member}[0]" if "[" in declared(struct.name, field.name) else member
            lines.append(
                f'P("{struct.name}.{field.name}:type", _Generic({element}, {C_TYPES[field.kind]}: 1, default: 0));'
            )
    lines += [f'P("class:{code}", KPK_CLASS({code}));' for code in range(256)]
    source = "\n".join(
        ["#include <kpack/abi.h>", "#include <stdio.h>",
         '#define P(name, value) printf("%s %llu\\n", name, (unsigned long long)(value))',
         "int main(void) {", *lines, "}"]
    )  # fmt: skip
    build = tmp_path_factory.mktemp("abi")
    (build / "facts.c").write_text(source)
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Werror", f"-I{INCLUDE}", "facts.c", "-o", "facts"],
        cwd=build,
        check=True,
    )
    output = subprocess.run([build / "facts"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


def declared(struct: str, field: str) -> str:
    """The declarator of one member, as the header spells it: "box[5]"."""
    body = re.search(rf"typedef struct {struct} \{{(.*?)\}}", header_text(), re.S)
    assert body, f"{struct}: not in the header"
    found = re.search(rf"\b{field}(\[\d+\])?[,;]", body[1])
    assert found, f"{struct}.{field}: not in the header"
    return found[0]


def constants_of_abi() -> dict[str, int]:
    return {
        name: value
        for name, value in vars(abi).items()
        if name.isupper() and isinstance(value, int) and not name.startswith("_")
    }


def test_every_constant_has_the_headers_value(facts: dict[str, int]) -> None:
    wanted = {name.removeprefix("KPK_"): facts[name] for name in header_constants()}
    assert constants_of_abi() == wanted


def test_every_struct_of_the_header_is_here() -> None:
    assert [struct.name for struct in abi.STRUCTS] == header_structs()


@pytest.mark.parametrize("struct", abi.STRUCTS, ids=lambda struct: struct.name)
def test_struct_is_laid_out_as_the_compiler_does(struct: abi.Struct, facts: dict[str, int]) -> None:
    assert (struct.size, struct.align) == (facts[struct.name], facts[f"{struct.name}:align"])
    for field in struct.fields:
        where = f"{struct.name}.{field.name}"
        assert field.offset == facts[where], where
        assert field.size == facts[f"{where}:size"], where
        assert facts[f"{where}:type"], f"{where}: not a {C_TYPES[field.kind]}"


@pytest.mark.parametrize("struct", abi.STRUCTS, ids=lambda struct: struct.name)
def test_struct_has_every_member_of_the_header(struct: abi.Struct) -> None:
    body = re.search(rf"typedef struct {struct.name} \{{(.*?)\}}", header_text(), re.S)
    assert body
    members = [
        name for line in body[1].split(";") for name in re.findall(r"(\w+)(?:\[\d+\])?(?=,|$)", line.strip())
    ]
    assert [field.name for field in struct.fields] == members


def test_class_of_every_type_code_is_the_macros(facts: dict[str, int]) -> None:
    assert [abi.type_class(code) for code in range(256)] == [facts[f"class:{code}"] for code in range(256)]


def test_signature_is_fnv1a_of_the_classes() -> None:
    assert abi.signature([]) == 0xCBF29CE484222325
    assert abi.fnv1a(b"foobar") == 0x85944171F73967E8  # from the reference page of FNV
    assert abi.signature([abi.I32, abi.FP16]) == abi.fnv1a(bytes([abi.I64, abi.FP64]))
    pointer = abi.POINTER | abi.FP16
    assert abi.signature([pointer]) == abi.fnv1a(bytes([pointer]))


def test_every_element_type_has_a_size_and_a_spelling() -> None:
    assert sorted(abi.DTYPES.values()) == list(range(abi.I1, abi.FP8E4B15 + 1))
    assert sorted(abi.ELEMENT_BYTES) == sorted(abi.DTYPES.values())


@pytest.mark.parametrize("struct", abi.STRUCTS, ids=lambda struct: struct.name)
def test_pack_and_unpack_are_inverse(struct: abi.Struct) -> None:
    values: dict[str, abi.Cell] = {}
    for number, field in enumerate(struct.fields, 1):
        count = len(field.code)
        values[field.name] = number if count == 1 else tuple(range(number, number + count))
    assert struct.unpack(struct.pack(**values)) == values
