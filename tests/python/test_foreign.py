"""Other ways in: ready-made images, bundles, intermediate forms and function tables, all made by Triton here."""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from pathlib import Path

import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import kpack
from kpack.errors import FormatError, SpecError
from kpack.foreign.bundle import read_bundles
from kpack.foreign.text import read_text
from kpack.image import identify
from kpack.objfile import abi
from kpack.objfile.elf import read_elf
from kpack.objfile.reading import read_pack
from kpack.target import parse_target, parse_targets

MAJOR, MINOR = map(int, triton.__version__.split(".")[:2])
SCRATCH = {"global": 0} if (MAJOR, MINOR) == (3, 4) else {"global": 0, "profile": 0}
SIGNATURE = {"x": "const *fp32:16", "o": "*fp32:16", "scale": "fp32", "n": "i32"}
GRID = {"constexprs": {"BLOCK": 128}, "grid": lambda n, BLOCK: kpack.cdiv(n, BLOCK)}
FLAGS_AT = 48  # of e_flags in an ELF header


@triton.jit
def scaled(x, o, scale, n, BLOCK: tl.constexpr):
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + cols, tl.load(x + cols, mask=cols < n) * scale, mask=cols < n)


@triton.jit
def summed(x, o, n, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    tl.store(o, tl.sum(tl.load(x + cols, mask=cols < n, other=0.0), axis=0))


@triton.jit
def moved(o, x):
    o.store([0, 0], x.load([0, 0]))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        patch.setenv("TRITON_DISABLE_LINE_INFO", "1")
        yield


def compiled(target: str, fn=scaled):
    """What bare Triton makes of a kernel: all forms, by stage."""
    arch = parse_target(target)
    gpu = GPUTarget("cuda", arch.arch, 32) if arch.arch else GPUTarget("hip", target, arch.warp_size)
    types = {"x": "*fp32", "o": "*fp32", "scale": "fp32", "n": "i32", "BLOCK": "constexpr"}
    names = fn.arg_names
    source = ASTSource(
        fn,
        {name: types[name] for name in names},
        constexprs={"BLOCK": 128},
        attrs={(at,): [["tt.divisibility", 16]] for at, name in enumerate(names) if name in ("x", "o")},
    )
    return triton.compile(source, target=gpu).asm


@pytest.fixture(scope="module")
def forms(cache):
    return {target: compiled(target) for target in ("sm_80", "sm_90", "gfx90a")}


@pytest.fixture(scope="module")
def files(forms, tmp_path_factory) -> dict[str, Path]:
    """The images as files, by target."""
    folder = tmp_path_factory.mktemp("images")
    found = {}
    for target, form in forms.items():
        kind = "cubin" if target.startswith("sm_") else "hsaco"
        found[target] = folder / f"{target}.{kind}"
        found[target].write_bytes(form[kind])
    found["ptx_80"] = folder / "sm_80.ptx"
    found["ptx_80"].write_text(forms["sm_80"]["ptx"])
    return found


def images(files, **changes) -> kpack.Images:
    given = {"signature": SIGNATURE, "scratch": SCRATCH, **GRID}
    return kpack.Images(changes.pop("name", "scaled"), files, **{**given, **changes})


def text_of(code: bytes) -> bytes:
    """The instructions of an image."""
    return b"".join(s.content for s in read_elf(code).sections if s.name.startswith(".text"))


def with_flags(code: bytes, flags: int) -> bytes:
    return code[:FLAGS_AT] + struct.pack("<I", flags) + code[FLAGS_AT + 4 :]


# ---- ready-made images


def test_ready_made_code_is_packed_as_tritons_own_would_be(files):
    # One kernel, declared twice: with its function, and by what the compiler made of it.
    own = kpack.build(
        kpack.Kernel(scaled, signature=SIGNATURE, **GRID), ["sm_80", "sm_90", "ptx_80", "gfx90a"]
    )
    ready = kpack.build(images(files), ["sm_80", "sm_90", "ptx_80", "gfx90a"])
    assert [image.target for image in ready.images] == [image.target for image in own.images]
    for ready_image, own_image in zip(ready.images, own.images, strict=True):
        assert ready_image.entry == "scaled"
        for fact in (
            "layout",
            "param_bytes",
            "num_warps",
            "warp_size",
            "registers",
            "max_threads",
            "elf_flags",
        ):
            assert getattr(ready_image, fact) == getattr(own_image, fact), fact
    assert ready.plans[0].params == own.plans[0].params
    variant = ready.plans[0].variants[0]
    assert variant.divisible_16 == own.plans[0].variants[0].divisible_16 == {0, 1}
    assert variant.name == "w4"


def test_the_archive_names_file_and_content_but_no_folder(files, tmp_path):
    archive = kpack.build(images({"sm_90": files["sm_90"]}), "sm_90", name="tk").write(tmp_path / "libtk.a")
    data = archive.read_bytes()
    assert b"sm_90.cubin" in data and str(files["sm_90"].parent).encode() not in data
    assert hashlib.sha256(files["sm_90"].read_bytes()).hexdigest().encode() in data
    assert [kernel.name for kernel in read_pack(archive).kernels] == ["scaled"]


def test_what_an_image_is_for_it_says_itself(files):
    found = images([files["gfx90a"], files["sm_90"], files["ptx_80"]])
    assert [each.target.name for each in found.found] == ["gfx90a", "sm_90a", "ptx_80"]
    plan = found.expand(parse_targets(["sm_90", "gfx90a", "gfx942"]))
    assert [target.name for target in plan.variants[0].targets] == ["sm_90a", "gfx90a"]
    assert [t.name for t in found.expand(parse_targets("sm_120")).variants[0].targets] == ["ptx_80"]


@pytest.mark.parametrize(
    ("flags", "target", "wanted"),
    [
        (0x53F, "gfx90a", "gfx90a"),
        (0x63F, "gfx90a:xnack-", "gfx90a"),
        (0xF3F, "gfx90a:sramecc+:xnack+", "gfx90a"),
        (0x0100055F, "gfx9-4-generic", "gfx942"),
        (0x01000951, "gfx9-generic:sramecc-", "gfx906"),
    ],
)
def test_features_and_generic_processors_are_kept(forms, flags, target, wanted):
    code = with_flags(forms["gfx90a"]["hsaco"], flags)
    (image,) = kpack.build(images(code), wanted).images
    assert (image.target, image.elf_flags) == (parse_target(target), flags)


def test_images_with_different_features_go_side_by_side(forms):
    codes = [with_flags(forms["gfx90a"]["hsaco"], flags) for flags in (0x63F, 0x73F, 0x53F)]
    pack = kpack.build(images(codes), "gfx90a")
    assert [image.target.name for image in pack.images] == ["gfx90a:xnack-", "gfx90a:xnack+", "gfx90a"]


def test_what_is_one_or_null_is_checked_and_not_passed(files):
    signature = {
        "x": SIGNATURE["x"],
        "mask": "*i8:none",
        "o": SIGNATURE["o"],
        "scale": "fp32",
        "step": "i32:1",
    }
    found = images({"sm_90": files["sm_90"]}, signature={**signature, "n": "i32"})
    (image,) = kpack.build(found, "sm_90").images
    assert [slot.index for slot in image.layout][:4] == [0, 2, 3, 5]
    (variant,) = found.expand(parse_targets("sm_90")).variants
    assert (variant.null, variant.equal_1) == ({1}, {4})


def test_shared_memory_cluster_and_flags_are_the_users(files):
    found = images({"sm_90": files["sm_90"]}, shared=2048, cluster=(16, 1, 1), cooperative=True, pdl=True)
    (image,) = kpack.build(found, "sm_90").images
    assert (image.shared_bytes, image.cluster) == (2048, (16, 1, 1))
    assert image.flags == (
        abi.IMAGE_COOPERATIVE | abi.IMAGE_PDL | abi.IMAGE_NONPORTABLE_CLUSTER | abi.IMAGE_SCRATCH_PER_CTA
    )
    scratch = {**SCRATCH, "global": (256, 32)}
    (image,) = kpack.build(images({"sm_90": files["sm_90"]}, scratch=scratch), "sm_90").images
    assert (image.global_scratch_bytes, image.global_scratch_align) == (256, 32)


def test_warps_that_the_code_does_not_ask_for_are_asked_for(forms):
    anywhere = forms["sm_80"]["ptx"].replace(".reqntid 128", ".maxntid 256")
    assert images(anywhere.encode()).found[0].num_warps == 8
    assert images(anywhere.encode(), num_warps=3).found[0].num_warps == 3
    silent = anywhere.replace(".maxntid 256", "")
    assert images(silent.encode(), num_warps=3).found[0].num_warps == 3
    with pytest.raises(SpecError, match="expected num_warps=, since the code does not say it"):
        images(silent.encode())
    with pytest.raises(SpecError, match="num_warps: expected 8 of 32 threads or fewer, got 16"):
        images(anywhere.encode(), num_warps=16)


@pytest.mark.parametrize(
    ("directive", "words"),
    [
        (".reqntid 16, 8", "expected code for blocks along x, got 16x8x1 threads"),
        (".reqntid 100", "expected code for blocks of whole warps of 32 threads, got 100"),
    ],
)
def test_blocks_that_no_launch_makes_are_refused(forms, directive, words):
    with pytest.raises(SpecError, match=words):
        images(forms["sm_80"]["ptx"].replace(".reqntid 128", directive).encode())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"signature": {**SIGNATURE, "n": "i64"}},
            ["parameters (offset, size): expected", "by the signature"],
        ),
        ({"signature": {"x": "*fp32", "o": "*fp32"}}, ["in the code"]),
        ({"scratch": {}}, ["pointers to scratch memory", f"give scratch={SCRATCH}"]),
        ({"signature": {**SIGNATURE, "x": "*fp33"}}, ["argument 'x': expected a type among", "'fp32'?"]),
        ({"signature": {**SIGNATURE, "x": "*fp32:16?"}}, ["expected the one way that the code was compiled"]),
        ({"signature": {**SIGNATURE, "x": "tensordesc<fp32[16]>"}}, ["expected no tensor descriptor"]),
        ({"signature": {"a b": "i32"}}, ["expected names, got 'a b'"]),
        ({"signature": ["i32"]}, ["signature: expected a dict"]),
        (
            {"constexprs": {"BLOCK": [64, 128]}},
            ["'BLOCK': expected the one value that the code was compiled with"],
        ),
        ({"constexprs": {"n": 1}}, ["'n': expected a name that is no argument's"]),
        ({"grid": None}, ["grid: expected"]),
        ({"grid": "n // M"}, []),  # M joins the call
        ({"guard": "n <= K"}, ["guard: ", "'K'"]),
        ({"num_warps": 8}, ["num_warps: expected 4, as the code asks for, got 8"]),
        ({"num_warps": 0}, ["num_warps: expected 1 or more, got 0"]),
        ({"shared": -1}, ["shared: expected a number of bytes, got -1"]),
        ({"cluster": (2, 1)}, ["cluster: expected CTAs along x, y and z, got (2, 1)"]),
        ({"scratch": {"local": 1}}, ["scratch: expected one of global profile, got 'local'"]),
        ({"scratch": {"global": (1, 3)}}, ["expected bytes, or a pair of bytes and alignment"]),
        ({"entry": "scalad"}, ["entry: expected one of scaled, got 'scalad'; did you mean 'scaled'?"]),
        ({"name": "2x"}, ["kernel name: expected a C identifier"]),
    ],
)
def test_what_does_not_agree_is_said(files, changes, words):
    def build():
        return images({"sm_90": files["sm_90"]}, **changes).expand(parse_targets("sm_90"))

    if not words:
        assert [param.name for param in build().params][-1] == "M"
        return
    with pytest.raises(SpecError) as raised:
        build()
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            lambda files: {"sm_80": files["sm_90"]},
            "sm_90.cubin: expected code for sm_80, got code for sm_90a",
        ),
        (
            lambda files: {"gfx942": files["gfx90a"]},
            "gfx90a.hsaco: expected code for gfx942, got code for gfx90a",
        ),
        (lambda files: {"gfx90a": files["sm_90"]}, "expected code for gfx90a, got code for sm_90a"),
        (lambda files: {"sm_91": files["sm_90"]}, "arch: expected one of"),
        (lambda files: [files["sm_90"], files["sm_90"]], "expected one image for sm_90a, got another"),
        (lambda files: [], "files: expected one image or more, got none"),
        (lambda files: "/nowhere/k.cubin", "expected a file to read, got '/nowhere/k.cubin'"),
        (lambda files: files["sm_90"].parent, "expected a file to read"),
        (lambda files: 7, "files: expected a file, a list, or files by target, got 7"),
        (lambda files: {"sm_90": 7}, "files: expected a path or bytes, got 7"),
        (lambda files: b"MZ\x90", "image: expected a cubin, a code object or PTX, got b'MZ"),
        (lambda files: b"", "image: expected a cubin, a code object or PTX"),
        (lambda files: b".version 8.0\n.target sm_80\n", "expected one kernel, got none"),
        (lambda files: b".version 8.0\n", "PTX: expected a line .target sm_"),
        (lambda files: b".version \xff", "PTX: expected ASCII text"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(files, given, words):
    with pytest.raises(SpecError) as raised:
        images(given(files))
    assert words in str(raised.value)


def test_a_build_without_a_fitting_image_is_refused(files):
    with pytest.raises(SpecError, match="expected an image for gfx942, got images for sm_90"):
        kpack.build(images({"sm_90": files["sm_90"]}), "gfx942")


@pytest.mark.parametrize("target", ["sm_90", "gfx90a", "ptx_80"])
def test_damaged_code_is_refused_or_read(files, target):
    code = files[target].read_bytes()
    damaged = [code[:length] for length in range(0, len(code), len(code) // 40)]
    for at in range(0, len(code), len(code) // 60):
        damaged.append(code[:at] + bytes([code[at] ^ 0x5A]) + code[at + 1 :])
    refused = 0
    for each in damaged:
        try:
            images(each).expand(parse_targets(["sm_90", "gfx90a", "ptx_80"]))
        except SpecError:
            refused += 1
    assert refused >= 20


# ---- bundles


def bundle(entries: dict[str, bytes]) -> bytes:
    """As clang-offload-bundler lays it out: images at multiples of 4096."""
    head = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(entries))
    end = 4096
    table, content = b"", b""
    for id_, code in entries.items():
        table += struct.pack("<QQQ", end + len(content), len(code), len(id_)) + id_.encode()
        content += code + bytes(-len(code) % 4096)
    return (head + table).ljust(end, b"\0") + content


def packed(data: bytes, version: int, method: int = 0, compress=zlib.compress) -> bytes:
    """As clang compresses bundles: "CCOB"."""
    body = compress(data)
    check = int.from_bytes(hashlib.md5(data).digest()[:8], "little")
    sizes = {1: "<IQ", 2: "<IIQ", 3: "<QQQ"}[version]
    total = 8 + struct.calcsize(sizes) + len(body)
    values = (len(data), check) if version == 1 else (total, len(data), check)
    return b"CCOB" + struct.pack("<HH", version, method) + struct.pack(sizes, *values) + body


@pytest.fixture(scope="module")
def bundled(forms) -> bytes:
    code = forms["gfx90a"]["hsaco"]
    return bundle(
        {
            "host-x86_64-unknown-linux--": b"",
            "hipv4-amdgcn-amd-amdhsa--gfx90a:xnack-": with_flags(code, 0x63F),
            "hipv4-amdgcn-amd-amdhsa--gfx90a:xnack+": with_flags(code, 0x73F),
            "hipv4-amdgcn-amd-amdhsa--gfx9-4-generic": with_flags(code, 0x100055F),
        }
    )


BUNDLED = ["gfx90a:xnack-", "gfx90a:xnack+", "gfx9-4-generic"]


@pytest.mark.parametrize("version", [None, 1, 2, 3])
def test_a_bundle_has_an_image_for_each_of_its_targets(bundled, version):
    data = bundled if version is None else packed(bundled, version)
    assert [found.target.name for found in images(data).found] == BUNDLED
    assert [found.target.name for found in images({"gfx942": data}).found] == ["gfx9-4-generic"]
    assert [image.target.name for image in kpack.build(images(data), ["gfx90a"]).images] == BUNDLED[:2]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_bundle_compressed_by_zstd_is_read(bundled, version):
    zstandard = pytest.importorskip("zstandard")
    data = packed(bundled, version, 1, zstandard.ZstdCompressor().compress)
    assert [found.target.name for found in images(data).found] == BUNDLED
    with pytest.raises(FormatError, match="compressed bundle"):
        read_bundles(packed(bundled, version, 1, lambda data: zstandard.ZstdCompressor().compress(data)[:-9]))


def test_without_a_zstd_the_message_says_where_to_get_one(bundled, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(SpecError, match=r"pip install zstandard, use Python 3\.14"):
        images(packed(bundled, 3, 1))


def test_bundles_that_follow_each_other_are_read(bundled, forms):
    other = bundle({"hipv4-amdgcn-amd-amdhsa--gfx90a": forms["gfx90a"]["hsaco"]})
    assert len(read_bundles(bundled + other)) == 5
    assert len(read_bundles(packed(bundled, 2) + bytes(100) + packed(other, 3) + bytes(4096))) == 5


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:24], "number of entries: expected 8 bytes"),
        (lambda data: data[:24] + struct.pack("<Q", 1 << 40) + data[32:], "expected at most 4096 entries"),
        (lambda data: data[:24] + bytes(8), "expected one entry or more"),
        (lambda data: data[:60], "entry 0"),
        (lambda data: data[:32] + struct.pack("<QQQ", 0, 0, 1 << 50) + data[56:], "bytes of its id"),
        (lambda data: data[:32] + struct.pack("<QQQ", 1 << 60, 9, 27) + data[56:], "expected 9 bytes at"),
        (lambda data: data[:56] + b"\xff" + data[57:], "expected an id in ASCII"),
        (lambda data: data[:-4096], "expected"),
        (lambda data: data + b"more", "expected __CLANG_OFFLOAD_BUNDLE__ or CCOB at"),
        (lambda data: packed(data, 2)[:6], "bytes of header"),
        (lambda data: packed(data, 2)[:10], "more bytes of header"),
        (lambda data: b"CCOB\x04\0" + packed(data, 2)[6:], "expected version 1, 2 or 3, got 4"),
        (lambda data: packed(data, 2, 7), "expected method 0 (zlib) or 1 (zstd), got 7"),
        (lambda data: packed(data, 2)[:-5], "bytes, got"),
        (lambda data: packed(data, 1)[:-400], "bytes unpacked, got"),
        (lambda data: packed(data, 2)[:28] + bytes(40), "bytes, got"),
        (lambda data: packed(data, 1)[:20] + bytes(40), "expected zlib data"),
        (lambda data: packed(data, 1, compress=lambda d: zlib.compress(d[:-1] + b"x")), "hash of its header"),
        (lambda data: packed(b"else", 3), "expected __CLANG_OFFLOAD_BUNDLE__ in it"),
        (lambda data: packed(data, 3)[:16] + b"\xff" * 8 + packed(data, 3)[24:], "bytes unpacked"),
    ],
)
def test_a_damaged_bundle_is_refused(bundled, damage, words):
    with pytest.raises(FormatError) as raised:
        read_bundles(damage(bundled))
    assert words in str(raised.value)


def test_a_bundle_of_nothing_that_fits_is_refused(bundled):
    with pytest.raises(SpecError, match="expected an image for gfx1100 in the bundle, got gfx90a:xnack-, "):
        images({"gfx1100": bundled})


def test_entries_that_overlap_do_not_eat_the_memory():
    ids = b"".join(struct.pack("<QQQ", 0, 90_000, 1) + b"x" for _ in range(4000))
    data = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", 4000) + ids
    with pytest.raises(FormatError, match="expected entries of"):
        read_bundles(data)


# ---- intermediate forms


@pytest.fixture(scope="module")
def texts(forms, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("texts")
    found = {}
    for target, form in forms.items():
        for stage in ("ttir", "ttgir", "llir", "ptx", "amdgcn"):
            if stage in form:
                found[f"{target}.{stage}"] = folder / f"{target}.{stage}"
                found[f"{target}.{stage}"].write_text(form[stage])
    return found


LATE = {"signature": SIGNATURE, "scratch": SCRATCH}


@pytest.mark.parametrize(
    ("form", "target", "changes"),
    [
        ("sm_90.ttir", "sm_90", {"signature": SIGNATURE}),
        ("sm_90.ttgir", "sm_90", {"signature": SIGNATURE}),
        ("sm_90.llir", "sm_90", LATE),
        ("sm_90.ptx", "sm_90", LATE),
        ("gfx90a.ttir", "gfx90a", {"signature": SIGNATURE}),
        ("gfx90a.ttgir", "gfx90a", {"signature": SIGNATURE}),
        ("gfx90a.llir", "gfx90a", LATE),
        ("gfx90a.amdgcn", "gfx90a", LATE),
    ],
)
def test_from_any_stage_on_the_code_is_the_same(texts, forms, form, target, changes):
    (image,) = kpack.build(kpack.IR(texts[form], "other", **changes, **GRID), target).images
    whole = forms[target]["cubin" if target.startswith("sm_") else "hsaco"]
    assert text_of(image.code) == text_of(whole)
    assert (image.entry, image.num_warps, image.target.name) == ("scaled", 4, target)
    assert [slot.offset for slot in image.layout][:4] == [0, 8, 16, 20]


def test_ttir_goes_for_every_target(texts):
    pack = kpack.build(kpack.IR(texts["sm_90.ttir"], grid=1), ["sm_80", "ptx_80", "gfx90a", "gfx1100"])
    assert [(image.target.name, image.warp_size) for image in pack.images] == [
        ("sm_80", 32),
        ("ptx_80", 32),
        ("gfx90a", 64),
        ("gfx1100", 32),
    ]


@pytest.mark.parametrize("target", ["sm_100f", "sm_120a", "ptx_90", "ptx_120f"])
def test_the_suffix_of_an_arch_is_the_targets(texts, target):
    if (MAJOR, MINOR) < (3, 6) and target.endswith("f"):
        pytest.skip("the ptxas of this Triton knows no families")
    (image,) = kpack.build(kpack.IR(texts["sm_90.ttir"], grid=1), target).images
    assert identify(image.code).target == image.target == parse_target(target)


def test_what_the_text_says_needs_no_words(texts):
    (plan,) = kpack.build(kpack.IR(texts["sm_90.ttir"], grid=1), "sm_90").plans
    (variant,) = plan.variants
    names = ["arg0", "arg1", "arg2", "arg3"] if (MAJOR, MINOR) < (3, 5) else ["x", "o", "scale", "n"]
    assert (plan.name, [param.name for param in plan.params]) == ("scaled", names)
    assert plan.overloads[0].types == (*[abi.POINTER | abi.FP32] * 2, abi.FP32, abi.I32)
    assert variant.divisible_16 == {0, 1}


def test_what_the_text_takes_for_divisible_is_asked_of_a_call(texts):
    signature = {"a": "*fp32", "skipped": "*i8:none", "b": "*fp32", "scale": "fp32", "n": "u32:16"}
    plan = kpack.IR(texts["sm_90.ttir"], signature=signature, grid=1).expand(parse_targets("sm_90"))
    assert plan.variants[0].divisible_16 == {0, 2, 4}
    assert plan.variants[0].null == {1}


def test_options_of_the_compiler_are_taken(texts):
    (image,) = kpack.build(kpack.IR(texts["sm_90.ttir"], grid=1, options={"num_warps": 2}), "sm_90").images
    assert image.num_warps == 2
    with pytest.raises(SpecError, match=r"option 'num_warp': expected one of .* did you mean 'num_warps'"):
        kpack.build(kpack.IR(texts["sm_90.ttir"], grid=1, options={"num_warp": 2}), "sm_90")


def test_ttgir_goes_for_what_it_was_made_for(texts):
    ir = kpack.IR(texts["gfx90a.ttgir"], grid=1)
    assert [t.name for t in ir.expand(parse_targets(["gfx942", "gfx90a"])).variants[0].targets] == ["gfx90a"]
    with pytest.raises(SpecError, match="expected a text for gfx942 or sm_90, got ttgir for hip:gfx90a"):
        ir.expand(parse_targets(["gfx942", "sm_90"]))
    both = kpack.IR({"sm_90": texts["sm_90.ttgir"], "gfx90a": texts["gfx90a.ttgir"]}, grid=1)
    assert len(kpack.build(both, ["sm_90", "gfx90a", "sm_80"]).images) == 2


def test_shared_memory_that_only_a_launch_says_is_asked_for(tmp_path):
    form = compiled("sm_90", summed)
    file = tmp_path / "summed.llir"
    file.write_text(form["llir"])
    given = {"signature": {"x": "*fp32", "o": "*fp32", "n": "i32"}, "scratch": SCRATCH, "grid": 1}
    with pytest.raises(
        SpecError, match="shared: expected bytes, since summed uses shared memory of any size"
    ):
        kpack.IR(file, **given)
    (image,) = kpack.build(kpack.IR(file, shared=16, **given), "sm_90").images
    assert image.shared_bytes == 16


@pytest.fixture(scope="module")
def moving(cache, tmp_path_factory) -> Path:
    box = dict.fromkeys(("o", "x"), "tensordesc<fp32[16,32]>")
    source = ASTSource(moved, box)
    file = tmp_path_factory.mktemp("tma") / "moved.ttir"
    file.write_text(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ttir"])
    return file


def test_a_descriptor_in_ttir_is_one_argument_of_the_call(moving):
    pack = kpack.build(kpack.IR(moving, grid=1), ["sm_90"])
    assert [param.type for param in pack.plans[0].params] == [abi.TENSORDESC | abi.FP32] * 2
    sources = [slot.source for slot in pack.images[0].layout]
    assert sources.count(abi.SLOT_DESC_MAP) == 2 and sources.count(abi.SLOT_DESC_SHAPE) == 4
    assert [each.box for each in pack.images[0].tensordescs] == [(16, 32)] * 2


@pytest.mark.parametrize(
    ("form", "changes", "words"),
    [
        (
            "sm_90.ttir",
            {"signature": {"x": "*fp32"}},
            "expected 4 arguments (*fp32 *fp32 fp32 i32) by the text",
        ),
        (
            "sm_90.ttir",
            {"signature": {**SIGNATURE, "x": "*fp16"}},
            "'x': expected *fp32 by the text, got *fp16",
        ),
        ("sm_90.ttir", {"shared": 4}, "shared: expected it of LLVM IR, PTX or assembly, got it of ttir"),
        ("sm_90.ttir", {"entry": "scale"}, "entry: expected one of scaled, got 'scale'"),
        ("sm_90.ttir", {"grid": None}, "grid: expected"),
        (
            "sm_90.ttgir",
            {"options": {"num_warps": 8}},
            "scaled: num_warps: expected 4, as the text says, got 8",
        ),
        ("sm_90.ttgir", {"num_warps": 2}, "scaled: num_warps: expected 4, as the text says, got 2"),
        ("sm_90.ttir", {"options": [1]}, "scaled: options: expected a dict"),
        ("sm_90.llir", {}, "scaled: signature: expected one, since llir does not say the types"),
        ("sm_90.llir", {"signature": SIGNATURE}, f"give scratch={SCRATCH}"),
        (
            "sm_90.llir",
            {**LATE, "signature": {**SIGNATURE, "n": "i64"}},
            "'n': expected i32 by the text, got i64",
        ),
        ("sm_90.llir", {**LATE, "num_warps": 0}, "num_warps: expected 1 or more, got 0"),
    ],
)
def test_what_a_text_and_its_declaration_do_not_agree_on_is_said(texts, form, changes, words):
    with pytest.raises(SpecError) as raised:
        kpack.IR(texts[form], **{"grid": 1, **changes}).expand(parse_targets("sm_90"))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("k.ttir", "module {\n}", "expected one public tt.func, got none"),
        (
            "k.ttir",
            "tt.func @a(%x: i32) {}\ntt.func @b() {}",
            "expected one public tt.func, got a b; give entry=",
        ),
        ("k.ttir", "tt.func @a(%x: i32", "expected the parameters of the function to end"),
        (
            "k.ttir",
            "tt.func @a(%x: !llvm.struct<(i32)>) {",
            "of a type that a call can pass, got '!llvm.struct",
        ),
        ("k.ttir", "tt.func @a(i32) {", "expected a parameter '%name: type', got 'i32'"),
        (
            "k.ttir",
            "tt.func @a(%x: !tt.tensordesc<4x8xf16>, %n: i32) {",
            "expected the shape (i32) and strides",
        ),
        ("k.ttgir", "tt.func @a(%x: i32) {", "expected ttg.target and ttg.num-warps among the attributes"),
        ("k.llir", "declare void @a()", "expected one kernel (ptx_kernel or amdgpu_kernel), got none"),
        (
            "k.llir",
            "define ptx_kernel void @a(ptr byval(i8) %0) {",
            "of a type that a call can pass, got 'ptr byval",
        ),
        ("k.ptx", "hello", "image: expected a cubin, a code object or PTX"),
        ("k.amdgcn", "s_endpgm", "expected one .amdhsa_kernel, got none"),
        ("k.txt", "", "expected a file that ends in .ttir"),
    ],
)
def test_texts_that_are_not_what_they_should_be_are_refused(tmp_path, name, content, words):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(SpecError) as raised:
        kpack.IR(file, "k", signature={"x": "i32"}, grid=1)
    assert words in str(raised.value)


def test_texts_that_cannot_be_read_are_refused(tmp_path, texts):
    (tmp_path / "k.ttir").write_bytes(b"\xff\xfe")
    for given, words in [
        (tmp_path / "k.ttir", "expected text, got byte 0xff"),
        (tmp_path / "none.ttir", "expected a file to read"),
        ({}, "files: expected one file or more"),
        ({"sm_91": texts["sm_90.ttir"]}, "arch: expected one of"),
        ({"sm_90": 7}, "files: expected a path, got 7"),
    ]:
        with pytest.raises(SpecError) as raised:
            kpack.IR(given, grid=1)
        assert words in str(raised.value)


@pytest.mark.parametrize(
    "form", ["sm_90.ttir", "sm_90.ttgir", "sm_90.llir", "gfx90a.llir", "sm_90.ptx", "gfx90a.amdgcn"]
)
def test_a_text_that_ends_early_is_refused_or_read(texts, form):
    content = texts[form].read_text()
    stage = form.rpartition(".")[2]
    for length in range(0, len(content), max(1, len(content) // 200)):
        try:
            read_text(stage, content[:length], None)
        except SpecError as error:
            assert "expected" in str(error)


def test_what_triton_cannot_read_is_a_failure_of_that_variant(texts, tmp_path):
    file = tmp_path / "broken.ttir"
    file.write_text(texts["sm_90.ttir"].read_text().replace("tt.store", "tt.stoer"))
    with pytest.raises(kpack.CompileError, match=r"scaled\.w4 for sm_90") as raised:
        kpack.build(kpack.IR(file, grid=1), "sm_90")
    assert "stoer" in str(raised.value)


# ---- function tables

TABLE = """
from itertools import product
import triton
import triton.language as tl


@triton.jit
def scaled(out_ptr, in_ptr, n, flag, BLOCK_SIZE: tl.constexpr):
    cols = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    x = tl.load(in_ptr + cols, mask=cols < n)
    tl.store(out_ptr + cols, tl.where(flag, x + x, x), mask=cols < n)


def get_function_table():
    return [
        {
            "name": f"scaled_{dtype}_{block}",
            "group": f"scaled_{dtype}",
            "func": scaled,
            "sig": f"*{dtype}, *{dtype},i32,B",
            "kwargs": {"num_warps": block // 64, "constants": {"BLOCK_SIZE": block}},
        }
        for dtype, block in product(("fp16", "fp32"), (128, 256))
    ]
"""


def test_a_function_table_is_taken_as_it_is(tmp_path):
    file = tmp_path / "scaled_triton.py"
    file.write_text(TABLE)
    pack = kpack.build(file, ["sm_90", "gfx90a"], name="ort")
    assert [plan.name for plan in pack.plans] == ["scaled_fp16", "scaled_fp32"]
    half = pack.plans[0]
    assert [param.name for param in half.params] == (
        "out_ptr in_ptr n flag name grid_x grid_y grid_z".split()
    )
    assert [overload.selected for overload in half.overloads] == [("scaled_fp16_128",), ("scaled_fp16_256",)]
    assert half.overloads[0].types[:4] == (*[abi.POINTER | abi.FP16] * 2, abi.I32, abi.I1)
    assert [variant.name for variant in half.variants] == ["scaled_fp16_128", "scaled_fp16_256"]
    assert all(variant.guard is None and len(variant.grid) == 3 for variant in half.variants)
    warps = [(image.entry, image.num_warps) for image in pack.images if image.target.name == "sm_90"]
    assert warps == [(f"scaled_{t}_{b}", b // 64) for t in ("fp16", "fp32") for b in (128, 256)]
    archive = pack.write(tmp_path / "libort.a")
    names = {variant.name for kernel in read_pack(archive).kernels for variant in kernel.variants}
    assert "scaled_fp32_256" in names


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ('"group": f"scaled_{dtype}"', '"grup": "a"'),
            ["group: expected a text, got None", "did you mean 'group'?"],
        ),
        (('"func": scaled', '"func": product'), ["func: expected a function decorated with @triton.jit"]),
        (
            ('f"*{dtype}, *{dtype},i32,B"', '"*fp32"'),
            ["sig: expected 4 types, for out_ptr in_ptr n flag, got '*fp32'"],
        ),
        (("i32,B", "i32,Q"), ["argument 'flag': expected a type among", "got 'Q'"]),
        (('f"scaled_{dtype}_{block}"', '"same"'), ["name: expected each once, got 'same' again"]),
        (
            ('f"scaled_{dtype}"', 'f"a{chr(45 + block // 256)}b"'),
            ["expected an identifier of its own, got a_b"],
        ),
        (
            ('{"BLOCK_SIZE": block}', '{"BLOCK": block}'),
            ["constants: expected parameters among", "'BLOCK_SIZE'?"],
        ),
        (('"num_warps": block // 64', '"num_warps": 3'), ["'num_warps'", "expected a power of two, got 3"]),
        (("return [", "return 7 or ["), ["get_function_table(): expected a list of rows, got 7"]),
        (("return [", "return [] and ["), ["expected one row or more, got none"]),
        (("return [", "return [7] or ["), ["get_function_table()[0]: expected a dict, got 7"]),
        (("    return [", "    None.x\n    return ["), ["AttributeError: 'NoneType'"]),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, change, words):
    file = tmp_path / "bad_triton.py"
    assert change[0] in TABLE
    file.write_text(TABLE.replace(*change))
    with pytest.raises(SpecError) as raised:
        kpack.find_kernels(file)
    for word in ("bad_triton.py", *words):
        assert word in str(raised.value)


def test_a_misspelt_option_of_a_row_is_refused(tmp_path):
    file = tmp_path / "bad_triton.py"
    file.write_text(TABLE.replace('"num_warps"', '"num_wraps"'))
    with pytest.raises(SpecError, match=r"option 'num_wraps': expected one of .* did you mean 'num_warps'"):
        kpack.build(file, "sm_90")


def test_rows_that_are_not_called_alike_are_refused(tmp_path):
    file = tmp_path / "bad_triton.py"
    more = "    return get_rows() + [dict(get_rows()[0], name='less', func=less, sig='*fp16')]\n"
    less = "\n\n@triton.jit\ndef less(out_ptr, BLOCK_SIZE: tl.constexpr):\n    tl.store(out_ptr, 0.0)\n"
    text = TABLE.replace("get_function_table", "get_rows") + less + "\n\ndef get_function_table():\n" + more
    file.write_text(text)
    with pytest.raises(
        SpecError, match=r"row 'less': expected the 7 arguments of .* rows of a group are called alike"
    ):
        kpack.build(file, "sm_90")


# ---- finding them


def test_a_file_may_hold_kernels_of_every_kind(files, texts, tmp_path):
    source = f"""
import kpack

class Symbol:  # as sympy has them
    name = "x"
    def expand(self, deep=True): raise RuntimeError

x = Symbol()
ready = kpack.Images("ready", {{"sm_90": {str(files["sm_90"])!r}}}, signature={SIGNATURE}, scratch={SCRATCH}, grid=1)
several = [kpack.IR({str(texts["sm_90.ttir"])!r}, "lowered", grid=1)]

def get_function_table():
    raise RuntimeError("there are kernels, so nobody asks")
"""
    file = tmp_path / "kernels.py"
    file.write_text(source)
    found = kpack.find_kernels([file, str(file)])
    assert [kernel.name for kernel in found] == ["lowered", "ready"]
    assert found[1].source == "kernels.py:9"
    assert kpack.find_kernels(found[0]) == (found[0],)


def test_two_of_one_name_are_refused(files):
    one, other = (images({"sm_90": files["sm_90"]}, shared=shared) for shared in (0, 16))
    with pytest.raises(
        SpecError, match="kernel 'scaled': expected one of this name, got one in test_foreign"
    ):
        kpack.find_kernels([one, other])
    assert kpack.find_kernels([one, images({"sm_90": files["sm_90"]}), one])[0] is one
