"""Tuning tables: Python and the runtime read the same, write the same bytes, and lose nothing of each other's."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from kpack.errors import FormatError, PackError
from kpack.tuning.key import KeyRule, bucket, quoted, tuning_hash, word_hash
from kpack.tuning.table import Entry, merge_entries, read_table

ROOT = Path(__file__).parents[2]
HEAD = "# kpack tuning table 1\nkernel,hash,device,overload,call,choice,median_us,fixed_us,left_out\n"
GOOD = 'softmax,0000000000000abc,sm_90/132,"*fp16,i64",n=1,fp16.w4,12.5,20.000,\n'


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("tables") / "tables"
    sources = [ROOT / "tests/cpp/tables.cc", ROOT / "csrc/src/message.cc"]
    sources += [ROOT / f"csrc/src/tune/{name}.cc" for name in ("table", "line", "journal")]
    includes = [f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc/src'}"]
    options = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    subprocess.run(["c++", *options, *includes, *sources, "-pthread", "-o", program], check=True)
    return program


def entry(call: str = "n=1", choice: str = "fp16.w4", **facts: object) -> Entry:
    given = {"kernel": "softmax", "hash": 0xABC, "device": "sm_90/132", "overload": "*fp16,i64"}
    return Entry(**{**given, "call": call, "choice": choice, "median_us": 12.5, "fixed_us": 20.0, **facts})  # type: ignore[arg-type]


def runtime_read(tool: Path, path: Path) -> tuple[list[Entry], int]:
    done = subprocess.run([tool, "read", path], capture_output=True, check=True)
    *lines, rejected = done.stdout.decode(errors="surrogateescape").split("\n")[:-1]
    entries = []
    for line in lines:
        kernel, hash_, device, overload, call, choice, median, fixed, left_out = line.split("\x1f")
        facts = (
            kernel,
            int(hash_, 16),
            device,
            overload,
            call,
            choice,
            float(median),
            float(fixed),
            left_out,
        )
        entries.append(Entry(*facts))
    return entries, int(rejected)


def runtime_merge(tool: Path, path: Path, entries: list[Entry]) -> None:
    lines = [
        f"{e.kernel}\n{e.hash:x}\n{e.device}\n{e.overload}\n{e.call}\n{e.choice}\n{e.median_us!r}\n"
        f"{e.fixed_us!r}\n{e.left_out}\n"
        for e in entries
    ]
    subprocess.run([tool, "merge", path], input="".join(lines).encode(errors="surrogateescape"), check=True)


# ---- the same in both languages


def random_line(source: random.Random) -> bytes:
    """Half of an entry, an entry with something changed, or noise."""
    line = bytearray(GOOD.rstrip().encode())
    form = source.randrange(6)
    if form == 0:
        return bytes(line[: source.randrange(len(line))])
    if form == 1:
        return bytes(source.choice(b'\0\x01\xff,"a1.#\r ') for _ in range(source.randrange(40)))
    if form == 2:
        return source.choice([b"# a note", b"# kpack tuning table 1", b"# kpack tuning table 7", b"", b"\r"])
    if form == 3:
        line[source.randrange(len(line))] = source.randrange(256)
    if form == 4:
        at = source.randrange(len(line))
        line[at:at] = source.choice([b",", b'"', b'""', b"\0", b".", b"-", b"0" * 15, "é".encode(), b"\r"])
    return bytes(line).replace(b"n=1", b"n=%d" % source.randrange(5))


@pytest.mark.parametrize("seed", range(4))
def test_both_read_and_merge_the_same_of_random_files(tool: Path, tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    seen = 0
    for number in range(60):
        mine, other = tmp_path / f"{number}.csv", tmp_path / f"{number}.cpp.csv"
        lines = [random_line(source) for _ in range(source.randrange(40))]
        content = (b"\xef\xbb\xbf" if source.random() < 0.2 else b"") + HEAD.encode() + b"\n".join(lines)
        mine.write_bytes(content)
        other.write_bytes(content)
        table = read_table(mine)
        assert runtime_read(tool, other) == (list(table.entries), len(table.rejected))
        news = [
            entry(f"n={source.randrange(7)}", choice=source.choice(["a,b", 'c"d', "e\x02f", "é"]),
                  median_us=source.random() * 10 ** source.randrange(-4, 12))
            for _ in range(source.randrange(1, 4))
        ]  # fmt: skip
        merge_entries(mine, news)
        runtime_merge(tool, other, news)
        assert mine.read_bytes() == other.read_bytes()
        aside, other_aside = (Path(f"{path}.rejected") for path in (mine, other))
        assert aside.exists() == other_aside.exists() == bool(table.rejected)
        assert not table.rejected or aside.read_bytes() == other_aside.read_bytes()
        assert not read_table(mine).rejected
        seen += len(table.entries) + len(table.rejected)
    assert seen > 200


def test_writers_of_both_languages_lose_nothing(tool: Path, tmp_path: Path) -> None:
    path, count = tmp_path / "t.csv", 60
    script = textwrap.dedent(f"""
        import sys
        from kpack.tuning.table import Entry, merge_entries
        for n in range({count}):
            merge_entries({str(path)!r}, [Entry("k", 1, "d", "o", f"{{sys.argv[1]}}={{n}}", "c", 1, 2)])
    """)
    writers = [subprocess.Popen([sys.executable, "-c", script, name]) for name in ("one", "two")]
    for n in range(count):
        runtime_merge(tool, path, [entry(f"n={n}")])
    assert [writer.wait() for writer in writers] == [0, 0]
    calls = {each.call for each in read_table(path).entries}
    assert calls == {f"{name}={n}" for name in ("one", "two", "n") for n in range(count)}


def test_a_killed_writer_leaves_a_whole_table(tmp_path: Path) -> None:
    path, source = tmp_path / "t.csv", random.Random(3)
    script = textwrap.dedent(f"""
        import sys
        from kpack.tuning.table import Entry, merge_entries
        for n in range(int(sys.argv[1]), 10**9):
            merge_entries({str(path)!r}, [Entry("k", 1, "d", "o", f"n={{n}}", "c", 1, 2)])
            print(n, flush=True)
    """)
    known = 0
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", script, str(known)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.readline()  # it has started
            for _ in range(source.randrange(20)):
                writer.stdout.readline()
            writer.kill()
            said = writer.stdout.read().split()
        table = read_table(path)
        assert not table.rejected
        assert len({each.call for each in table.entries}) == len(table.entries)
        assert not said or f"n={int(said[-1])}" in {each.call for each in table.entries}
        known = len(table.entries)
    assert known >= 8


# ---- reading


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("\x01", "4: expected text, got a control character"),
        ("softmax,12", "4: expected 9 values, got fewer"),
        (GOOD.replace("0000000000000abc", "ABC").rstrip(), "got ABC"),
        (GOOD.replace("12.5", "fast").rstrip(), "4: expected median_us: microseconds as 12.345, got fast"),
        (GOOD.replace("fp16.w4", "").rstrip(), "got an empty one"),
        ("# kpack tuning table 2", "4: expected version 1, got kpack tuning table 2"),
    ],
)
def test_a_line_that_is_none_is_named_with_what_was_expected(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{HEAD}{GOOD}{line}\n")
    table = read_table(path)
    assert [str(each)[-len(reason) :] for each in table.rejected] == [reason]
    assert table.rejected[0].text == line
    assert [each.call for each in table.entries] == ["n=1"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"absent\.csv: expected a tuning table, got No such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(PackError, match="expected a table that can be written, got No such file"):
        merge_entries(tmp_path / "no" / "folder.csv", [entry()])


# ---- keys


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-(2**63), -(2**63)),
        (0, 0),
        (16, 16),
        (17, 20),
        (20, 20),
        (21, 24),
        (25, 28),
        (29, 32),
        (32, 32),
        (33, 40),
        (40, 40),
        (41, 48),
        (64, 64),
        (65, 80),
        (1000, 1024),
        (1025, 1280),
        (2**62, 2**62),
        (2**63 - 1, 2**63 - 1),
        (7 * 2**60, 7 * 2**60),
        (7 * 2**60 + 1, 2**63 - 1),
    ],
)
def test_a_bucket_ends_at_a_quarter_of_an_octave(value: int, expected: int) -> None:
    assert bucket(value) == expected


def test_buckets_are_intervals_that_end_in_themselves() -> None:
    ends = {bucket(n) for n in range(1, 5000)}
    assert all(bucket(n) == min(end for end in ends if end >= n) for n in range(1, 4000))
    assert all(min(range(8 * 2**k // 2, 8 * 2**k + 1, 2**k)) in ends for k in range(1, 9))


RULE = KeyRule(
    overload="*fp16",
    params=("out", "in", "n", "rows"),
    keys={"n": False, "rows": True},
    classes={"16": frozenset(("out", "in")), "1": frozenset(("rows",)), "null": frozenset(("in",))},
)


def key(call: str, device: str = "sm_90/132", rule: KeyRule = RULE) -> int:
    return rule.key(device, rule.read(call))


def test_a_call_is_read_as_values_and_classes() -> None:
    call = RULE.read("n=1024 rows=-3 16=out,in null=in")
    assert call.values == {"n": 1024, "rows": -3}
    assert call.classes == {"16": {"out", "in"}, "null": {"in"}}
    assert call.special == 3
    nothing = replace(RULE, keys={}, classes=dict.fromkeys(RULE.classes, frozenset()))
    assert nothing.read("-") == nothing.read("")
    assert key("-", rule=nothing) not in (0, key("n=1 rows=1"))


def test_order_does_not_matter_and_values_are_bucketed() -> None:
    assert key("n=1024 rows=2 16=out,in") == key("16=in,out rows=2 n=1000")
    assert key("n=1024 rows=1000") != key("n=1024 rows=1024")  # by value


@pytest.mark.parametrize(
    "text",
    [
        "n",
        "n=1",
        "n=1 rows=",
        "n=1 rows=1 n=2",
        "n=1 rows=1 16=",
        "n=1 rows=1 16=n",
        "n=1 rows=1 16=in 16=out",
    ]
    + ["n=1 rows=1 2=in", "n=1.5 rows=1", f"n={2**63} rows=1", "n=1  rows=1", "m=1 rows=1 n=1", "-", ""],
)
def test_a_call_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"expected n=integer rows=integer 16=in,out 1=rows null=in, got"):
        RULE.read(text)


def test_an_entry_is_of_one_key_and_no_other() -> None:
    keys = [
        key("n=1024 rows=2 16=out,in"),
        key("n=1024 rows=2 16=out,in", device="sm_90/114"),
        key("n=1024 rows=2 16=out,in", rule=replace(RULE, overload="*bf16")),
        key("n=1025 rows=2 16=out,in"),
        key("n=1024 rows=2 16=out"),
        key("n=1024 rows=2 null=in"),
        key("n=1024 rows=2 16=in"),
        key("n=1024 rows=2"),
        key("n=2 rows=1024"),
    ]
    assert len({*keys}) == len(keys)
    assert all(0 < each < 2**64 for each in keys)


def test_classes_that_no_variant_asks_for_any_more_do_not_count() -> None:
    fewer = replace(RULE, classes={**RULE.classes, "16": frozenset(("out",))})
    assert fewer.key("d", RULE.read("n=1 rows=1 16=out,in")) == fewer.key("d", RULE.read("n=1 rows=1 16=out"))


def test_text_is_quoted_in_one_line() -> None:
    assert quoted("it's \\ a\n") == "'it\\'s \\\\ a\\x0a'"


def test_hashes_are_what_they_were() -> None:
    """Tables outlive kpack: these numbers are in files."""
    assert f"{word_hash([]):016x}" == "cbf29ce484222325"
    assert word_hash([1, -1]) == word_hash([1, 2**64 - 1])
    assert (f"{tuning_hash([1, 2, 3]):016x}", f"{key('n=1024 rows=2 16=out'):016x}") == (
        "0c07b167c3203d34",
        "39a18cea1ee5c9ac",
    )
