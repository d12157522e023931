"""Imports point one way, each foreign library has one owner, and the C++ runtime keeps its promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kpack"
SOURCES = ROOT / "csrc"

# A module imports only from floors below its own. "name.*" stands for all modules of a package, which may also
# import each other, but in no circle.
FLOORS = [
    {"_runtime", "errors", "objfile"},
    {"alike", "depfile", "naming", "needs", "objfile.abi", "paths", "progress", "tuning"},
    {"target", "tuning.key", "tuning.table"},
    {"expr.*", "tuning.tables"},
    {"spec.*"},
    {"objfile.elf", "objfile.archive", "objfile.listing"},
    {"image.*", "objfile.host", "objfile.section", "objfile.words"},
    {"objfile.program", "objfile.record", "objfile.relocatable", "objfile.store"},
    {"objfile.consistency", "objfile.descriptor", "objfile.linked"},
    {"objfile.decode", "objfile.encode"},
    {"objfile.reading"},
    {"compile.*"},
    {"foreign.*"},
    {"find", "tuning.bake"},
    {"build", "join", "learn.*", "runtime"},
    {"__init__", "arguments", "doctor.*", "extract", "link", "verify"},
    {"tuning.shapes"},
    {"tuning.offline", "tuning.worker"},
    {"report.*"},
    {"cli.*"},  # what a user can do from Python, and nothing else
    {"__main__"},
]
# A method that calls up, and only when it is called: a Kernel can be learnt by asking its own class.
CALLS_UP = {("spec.kernel", "learn")}
OWNERS = {
    "lief": {"objfile.relocatable"},
    "triton": {"compile.*"},
    "torch": set[str](),
    "numpy": set[str](),
    "msgpack": {"image.hsaco"},
    "multiprocessing": {"compile.*"},
    "rich": {"cli.*", "progress"},
    "click": {"cli.*"},
    "ctypes": set[str](),
}


def module_name(path: Path) -> str:
    """kpack/objfile/elf.py: "objfile.elf"; kpack/objfile/__init__.py: "objfile"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def family(module: str) -> str:
    """The package that stands for `module` in FLOORS: "spec.*" for "spec.plan" and for "spec" itself."""
    package = module.partition(".")[0] + ".*"
    return package if any(package in modules for modules in FLOORS) else module


def floor(module: str) -> int:
    floors = [number for number, modules in enumerate(FLOORS) if family(module) in modules]
    assert floors, f"{module}: add it to FLOORS"
    return floors[0]


def imports(source: str) -> set[str]:
    """Everything that `source` imports, at the top or in a function; names of `from x import y` as x.y."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides which floor it is from"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def own_imports(source: str) -> set[str]:
    """The modules of kpack that `source` imports: kpack.objfile.elf.read_elf is objfile.elf."""
    found = set()
    for name in imports(source):
        root, *rest = name.split(".")
        if root == "kpack":
            while rest and ".".join(rest) not in MODULES and rest != ["_runtime"]:
                rest.pop()
            found.add(".".join(rest) or "__init__")
    return found


def test_own_imports_are_resolved_to_modules() -> None:
    source = (
        "import kpack\ndef f():\n    from kpack.objfile.elf import read_elf\nfrom kpack import errors, Kernel"
    )
    assert own_imports(source) == {"__init__", "objfile.elf", "errors"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    mine = floor(module)
    for name in own_imports(MODULES[module].read_text()):
        if (module, name) in CALLS_UP:
            continue
        beside = family(module) == family(name)
        assert beside or floor(name) < mine, f"{module} imports {name}, which is not below it"


def test_imports_have_no_cycle() -> None:
    graph = {
        module: {name for name in own_imports(path.read_text()) if (module, name) not in CALLS_UP}
        for module, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_a_foreign_library_has_one_owner(module: str) -> None:
    for name in imports(MODULES[module].read_text()):
        library = name.partition(".")[0]
        owners = OWNERS.get(library, {family(module)})
        assert family(module) in owners or module in owners, (
            f"{module} imports {library}; only {sorted(owners) or 'nobody'} may"
        )


def test_import_kpack_loads_no_compiler_and_no_tensor_library() -> None:
    heavy = {"lief", "numpy", "rich", "torch", "triton"}
    script = "import kpack, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "kpack" in loaded.split()
    assert not heavy & set(loaded.split())


def test_packs_are_loaded_without_what_only_builds_and_shows() -> None:
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in "triton lief rich click msgpack numpy torch".split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import kpack
kpack.load("/absent.so")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "\nkpack.errors.FormatError: " in done.stderr


# ---- C++

CPP = {
    str(path.relative_to(SOURCES)): path
    for path in sorted(SOURCES.rglob("*"))
    if path.suffix in {".cc", ".h", ".hpp"}
}
RUNTIME = [name for name in CPP if not name.startswith("python/")]


def code(source: str) -> str:
    """`source` without comments and literals, in which words are only words."""
    pattern = r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(pattern, lambda found: '""' if found[0][0] in "\"'" else " ", source, flags=re.DOTALL)


def test_code_drops_comments_and_literals() -> None:
    source = """int a; // exit\nf("throw // \\" new", 'x'); /* dlopen\n */ g();"""
    assert code(source).split() == ["int", "a;", 'f("",', '"");', "g();"]


def users(pattern: str) -> set[str]:
    return {name for name, path in CPP.items() if re.search(pattern, code(path.read_text()))}


def test_only_library_cc_opens_libraries() -> None:
    assert users(r"\bdl(open|sym|close|mopen|vsym|error)\b|<dlfcn\.h>") == {"src/library.cc"}


def test_only_the_extension_knows_python() -> None:
    assert users(r"<(pybind11|Python\.h)|\bpybind11\b|\bPy[A-Z]\w+_\w+") == {
        "python/module.cc",
        "python/values.cc",
        "python/values.h",
    }


# What the runtime never does, and a line of code that would.
NEVER = {
    "prints": (r"\bv?f?printf\s*\(|\bputs\b|<iostream>|\bstd::c(out|err)\b", "printf(text);"),
    "ends the process": (r"\b_?_?exit\b|\babort\b|\bterminate\b", "std::abort();"),
    "knows exceptions": (r"\bthrow\b|\btry\b|\bcatch\b", "throw 1;"),
    # Placement new is not meant: it allocates nothing.
    "allocates by new": (
        r"\bnew\b\s*(?![\s(>])|\bmake_(unique|shared)\b|\bstd::(string|vector|map)\b",
        "new int;",
    ),
    "includes a vendor's header": (r"<(cuda|hip)[\w/]*\.h>", "#include <cuda.h>"),
}


@pytest.mark.parametrize("what", NEVER)
def test_what_the_runtime_never_does_would_be_found(what: str) -> None:
    pattern, offence = NEVER[what]
    assert re.search(pattern, offence)


# In templates of a header, which a program that does not use them does not get: kpack::explain returns a text.
ALLOWED = {("include/kpack/kpack.hpp", "allocates by new"): "std::string"}


@pytest.mark.parametrize("what", NEVER)
@pytest.mark.parametrize("name", RUNTIME)
def test_the_runtime_never(name: str, what: str) -> None:
    source = code(CPP[name].read_text())
    if (name, what) in ALLOWED:
        source = source.replace(ALLOWED[name, what], "")
    found = re.search(NEVER[what][0], source)
    assert found is None, f"{name} {what}: {found[0] if found else ''}"
