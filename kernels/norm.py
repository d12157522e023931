"""What rms_norm.py and layer_norm.py are made of: y = (x - mean) / sqrt(variance + eps) * weight + bias of each row.

All in float32, or float64 of float64; without CENTER the mean counts as zero, and there is no bias. Any stride,
alignment and number of rows.
"""

from __future__ import annotations

import triton
import triton.language as tl
from rows import (
    ANY,
    Tables,
    Tile,
    cases,
    load_piece,
    load_pieces,
    load_step,
    row_args,
    rows_of_program,
    short,
    step_columns,
    store_piece,
    store_step,
    whole,
)

import kpack


@triton.jit
def norm_kernel(
    out_ptr,
    in_ptr,
    weight_ptr,
    bias_ptr,
    mean_ptr,
    rstd_ptr,
    in_row_stride,
    out_row_stride,
    n_cols,
    eps,
    n_rows,
    CENTER: tl.constexpr,
    ROWS: tl.constexpr,  # of a program
    BLOCK: tl.constexpr,  # columns of a piece
    HELD: tl.constexpr,  # pieces in registers
    STEP: tl.constexpr,  # pieces at once of what follows them; 0: nothing does
    ALIGN: tl.constexpr,  # what both strides and n_cols are multiples of, in elements
    LONGEST: tl.constexpr,  # columns; for the guard alone
):
    WIDE: tl.constexpr = tl.float64 if in_ptr.dtype.element_ty == tl.float64 else tl.float32
    # Multiples of ALIGN, as the guard has it; written like this, Triton knows it, and moves 16 bytes at a time.
    in_row_stride = in_row_stride // ALIGN * ALIGN
    out_row_stride = out_row_stride // ALIGN * ALIGN
    n_cols = n_cols // ALIGN * ALIGN
    row, present = rows_of_program(n_rows, ROWS)
    in_ptr += row * in_row_stride
    out_ptr += row * out_row_stride
    cols = tl.arange(0, BLOCK)[None, :]
    xs = load_pieces(in_ptr, n_cols, present, 0.0, BLOCK, HELD, "")

    mean = 0.0
    if CENTER:
        tl.static_assert(HELD > 0)
        sums = tl.zeros([ROWS, BLOCK], WIDE)
        for piece in tl.static_range(HELD):
            sums += xs[piece].to(WIDE)
        mean = tl.sum(sums, axis=1)[:, None] / tl.minimum(n_cols, HELD * BLOCK)
    squares = tl.zeros([ROWS, BLOCK], WIDE)
    for piece in tl.static_range(HELD):
        far = xs[piece].to(WIDE) - mean
        if CENTER:
            far = tl.where(piece * BLOCK + cols < n_cols, far, 0.0)
        squares += far * far
    if STEP > 0:
        # So far it is the mean of what is held. The others are counted from there, and it is moved: a mean far from
        # zero costs no digits of the variance.
        moves = tl.zeros([ROWS, BLOCK], WIDE)
        for start in tl.range(HELD * BLOCK, n_cols, STEP * BLOCK):
            at = step_columns(start, BLOCK, STEP)
            away = load_step(in_ptr, at, n_cols, 0.0, "evict_last").to(WIDE) - mean
            if CENTER:
                away = tl.where(at < n_cols, away, 0.0)
                moves += tl.sum(away, axis=0)[None, :]
            squares += tl.sum(away * away, axis=0)[None, :]
    variance = tl.sum(squares, axis=1)[:, None] / n_cols
    if CENTER and STEP > 0:
        move = tl.sum(moves, axis=1)[:, None] / n_cols
        mean += move
        variance -= move * move
    rstd = tl.rsqrt(variance + eps)
    column = row + tl.zeros([ROWS, 1], tl.int64)
    if CENTER:
        tl.store(mean_ptr + column, mean, mask=present)
    tl.store(rstd_ptr + column, rstd, mask=present)

    for piece in tl.static_range(HELD):
        weight = load_piece(weight_ptr, piece * BLOCK, n_cols, True, 0.0, BLOCK, "evict_last")
        y = (xs[piece].to(WIDE) - mean) * rstd * weight.to(WIDE)
        if CENTER:
            bias = load_piece(bias_ptr, piece * BLOCK, n_cols, True, 0.0, BLOCK, "evict_last")
            y += bias.to(WIDE)
        store_piece(out_ptr, y, piece * BLOCK, n_cols, present, BLOCK)
    if STEP > 0:
        for start in tl.range(HELD * BLOCK, n_cols, STEP * BLOCK):
            at = step_columns(start, BLOCK, STEP)
            normal = (load_step(in_ptr, at, n_cols, 0.0, "evict_first").to(WIDE) - mean) * rstd
            last = normal * load_step(weight_ptr, at, n_cols, 0.0, "evict_last").to(WIDE)
            if CENTER:
                last += load_step(bias_ptr, at, n_cols, 0.0, "evict_last").to(WIDE)
            store_step(out_ptr, last, at, n_cols)


@triton.jit
def norm_backward_kernel(
    dx_ptr,
    dweight_ptr,
    dbias_ptr,
    dy_ptr,
    in_ptr,
    weight_ptr,
    mean_ptr,
    rstd_ptr,
    dx_row_stride,
    dy_row_stride,
    in_row_stride,
    n_cols,
    n_rows,
    n_parts,
    CENTER: tl.constexpr,
    ROWS: tl.constexpr,  # of a program, at once
    BLOCK: tl.constexpr,  # columns of a piece
    HELD: tl.constexpr,  # pieces of a row; 0: any number, of which none stays in registers
    STAGES: tl.constexpr,  # rows under way to a program
    ALIGN: tl.constexpr,  # what the strides and n_cols are multiples of, in elements
    LONGEST: tl.constexpr,  # columns; for the guard alone
):
    """Programs take turns at some rows each, and leave their shares of what weight and bias get in a row of their own,
    of WIDE: column_sums.py has what adds those up. Which rows are whose does not depend on the variant, so that all
    leave the same shares."""
    WIDE: tl.constexpr = tl.float64 if in_ptr.dtype.element_ty == tl.float64 else tl.float32
    dx_row_stride = dx_row_stride // ALIGN * ALIGN
    dy_row_stride = dy_row_stride // ALIGN * ALIGN
    in_row_stride = in_row_stride // ALIGN * ALIGN
    n_cols = n_cols // ALIGN * ALIGN
    part = tl.program_id(0)
    dweight_ptr += part.to(tl.int64) * n_cols
    if CENTER:
        dbias_ptr += part.to(tl.int64) * n_cols
    if HELD == 0:
        _any_length(dx_ptr, dweight_ptr, dbias_ptr, dy_ptr, in_ptr, weight_ptr, mean_ptr, rstd_ptr, dx_row_stride,
                    dy_row_stride, in_row_stride, n_cols, n_rows, n_parts, CENTER, BLOCK, WIDE)  # fmt: skip
    else:
        _in_registers(dx_ptr, dweight_ptr, dbias_ptr, dy_ptr, in_ptr, weight_ptr, mean_ptr, rstd_ptr, dx_row_stride,
                      dy_row_stride, in_row_stride, n_cols, n_rows, n_parts, CENTER, ROWS, BLOCK, HELD,
                      STAGES, WIDE)  # fmt: skip


ROWS_TIMES_COLUMNS = tl.constexpr(16384)  # of a tile of several rows, at most


@triton.jit
def _turns(n_cols, n_rows, n_parts, ROWS: tl.constexpr):
    """The rows of a turn, a power of two: as many as some tile of so many columns has, but no more than leave rows for
    all programs. Its tiles, which power of two they are, and the tiles that this program has in all its turns."""
    most = tl.cdiv(ROWS_TIMES_COLUMNS, tl.maximum(n_cols, 1))
    less = tl.cast(tl.maximum(tl.minimum(most, tl.cdiv(n_rows, n_parts)), 2), tl.int32) - 1
    less |= less >> 1
    less |= less >> 2
    less |= less >> 4
    less |= less >> 8
    rows = less + 1
    tiles = tl.maximum(rows // ROWS, 1)
    log = tiles * 0
    for bit in tl.static_range(14):
        log += (tiles - 1) >> bit & 1
    part = tl.program_id(0)
    return rows, tiles, log, tl.cdiv(tl.cdiv(n_rows, rows) - part, n_parts) * tiles


@triton.jit
def _rows_of_tile(tile, n_rows, n_parts, turn, tiles, log, ROWS: tl.constexpr):
    """A column of rows, and which of them there are."""
    # A division instead of the shift would be in the way of the next rows' loads.
    first = ((tile >> log) * n_parts + tl.program_id(0)) * turn
    within = tl.cast(tile & (tiles - 1), tl.int32) * ROWS + tl.arange(0, ROWS)[:, None]
    row = first + within.to(tl.int64)
    return row, (row < n_rows) & (within < turn)


@triton.jit
def _in_registers(
    dx_ptr, dweight_ptr, dbias_ptr, dy_ptr, in_ptr, weight_ptr, mean_ptr, rstd_ptr, dx_row_stride, dy_row_stride,
    in_row_stride, n_cols, n_rows, n_parts, CENTER: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    HELD: tl.constexpr, STAGES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    tl.static_assert(ROWS == 1 or ROWS * BLOCK * HELD <= ROWS_TIMES_COLUMNS)
    weights = load_pieces(weight_ptr, n_cols, True, 0.0, BLOCK, HELD, "evict_last")
    dweights = ()
    dbiases = ()
    for _ in tl.static_range(HELD):
        dweights = dweights + (tl.zeros([ROWS, BLOCK], WIDE),)
        dbiases = dbiases + (tl.zeros([ROWS, BLOCK], WIDE),)
    turn, tiles, log, all_tiles = _turns(n_cols, n_rows, n_parts, ROWS)
    for tile in tl.range(0, all_tiles, num_stages=STAGES):
        row, present = _rows_of_tile(tile, n_rows, n_parts, turn, tiles, log, ROWS)
        xs = load_pieces(in_ptr + row * in_row_stride, n_cols, present, 0.0, BLOCK, HELD, "")
        dys = load_pieces(dy_ptr + row * dy_row_stride, n_cols, present, 0.0, BLOCK, HELD, "")
        rstd = tl.load(rstd_ptr + row, mask=present, other=0.0)
        mean = 0.0
        if CENTER:
            mean = tl.load(mean_ptr + row, mask=present, other=0.0)
        along = tl.zeros([ROWS, BLOCK], WIDE)
        level = tl.zeros([ROWS, BLOCK], WIDE)
        new_dweights = ()
        new_dbiases = ()
        for piece in tl.static_range(HELD):
            dy = dys[piece].to(WIDE)
            normal = (xs[piece].to(WIDE) - mean) * rstd
            wdy = dy * weights[piece].to(WIDE)
            along += normal * wdy
            level += wdy
            new_dweights = new_dweights + (dweights[piece] + dy * normal,)
            new_dbiases = new_dbiases + (dbiases[piece] + dy,)
        dweights = new_dweights
        dbiases = new_dbiases
        along = tl.sum(along, axis=1)[:, None] / n_cols
        if CENTER:
            level = tl.sum(level, axis=1)[:, None] / n_cols
        for piece in tl.static_range(HELD):
            normal = (xs[piece].to(WIDE) - mean) * rstd
            wdy = dys[piece].to(WIDE) * weights[piece].to(WIDE)
            dx = wdy - normal * along
            if CENTER:
                dx -= level
            store_piece(dx_ptr + row * dx_row_stride, dx * rstd, piece * BLOCK, n_cols, present, BLOCK)
    for piece in tl.static_range(HELD):
        share = tl.sum(dweights[piece], axis=0)[None, :]
        store_piece(dweight_ptr, share, piece * BLOCK, n_cols, True, BLOCK)
        if CENTER:
            share = tl.sum(dbiases[piece], axis=0)[None, :]
            store_piece(dbias_ptr, share, piece * BLOCK, n_cols, True, BLOCK)


@triton.jit
def _any_length(
    dx_ptr, dweight_ptr, dbias_ptr, dy_ptr, in_ptr, weight_ptr, mean_ptr, rstd_ptr, dx_row_stride, dy_row_stride,
    in_row_stride, n_cols, n_rows, n_parts, CENTER: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """A row at a time, read twice, and then all rows again for what weight and bias get, BLOCK columns at a time:
    slower, and for any length."""
    turn, tiles, log, all_tiles = _turns(n_cols, n_rows, n_parts, 1)
    for tile in tl.range(0, all_tiles):
        row, present = _rows_of_tile(tile, n_rows, n_parts, turn, tiles, log, 1)
        x_row = in_ptr + row * in_row_stride
        dy_row = dy_ptr + row * dy_row_stride
        dx_row = dx_ptr + row * dx_row_stride
        rstd = tl.load(rstd_ptr + row, mask=present, other=0.0)
        mean = 0.0
        if CENTER:
            mean = tl.load(mean_ptr + row, mask=present, other=0.0)
        alongs = tl.zeros([1, BLOCK], WIDE)
        levels = tl.zeros([1, BLOCK], WIDE)
        for start in tl.range(0, n_cols, BLOCK):
            wdy = load_piece(dy_row, start, n_cols, present, 0.0, BLOCK, "evict_last").to(WIDE)
            wdy *= load_piece(weight_ptr, start, n_cols, True, 0.0, BLOCK, "evict_last").to(WIDE)
            x = load_piece(x_row, start, n_cols, present, 0.0, BLOCK, "evict_last").to(WIDE)
            alongs += (x - mean) * rstd * wdy
            levels += wdy
        along = tl.sum(alongs, axis=1)[:, None] / n_cols
        level = tl.sum(levels, axis=1)[:, None] / n_cols
        for start in tl.range(0, n_cols, BLOCK):
            wdy = load_piece(dy_row, start, n_cols, present, 0.0, BLOCK, "evict_first").to(WIDE)
            wdy *= load_piece(weight_ptr, start, n_cols, True, 0.0, BLOCK, "evict_last").to(WIDE)
            x = load_piece(x_row, start, n_cols, present, 0.0, BLOCK, "evict_first").to(WIDE)
            dx = wdy - (x - mean) * rstd * along
            if CENTER:
                dx -= level
            store_piece(dx_row, dx * rstd, start, n_cols, present, BLOCK)
    for start in tl.range(0, n_cols, BLOCK):
        dweights = tl.zeros([1, BLOCK], WIDE)
        dbiases = tl.zeros([1, BLOCK], WIDE)
        for tile in tl.range(0, all_tiles, num_stages=3):
            row, present = _rows_of_tile(tile, n_rows, n_parts, turn, tiles, log, 1)
            dy = load_piece(dy_ptr + row * dy_row_stride, start, n_cols, present, 0.0, BLOCK, "").to(WIDE)
            x = load_piece(in_ptr + row * in_row_stride, start, n_cols, present, 0.0, BLOCK, "").to(WIDE)
            mean = 0.0
            if CENTER:
                mean = tl.load(mean_ptr + row, mask=present, other=0.0)
            dweights += dy * (x - mean) * tl.load(rstd_ptr + row, mask=present, other=0.0)
            dbiases += dy
        store_piece(dweight_ptr, dweights, start, n_cols, True, BLOCK)
        if CENTER:
            store_piece(dbias_ptr, dbiases, start, n_cols, True, BLOCK)


# ---- specs: both norms' kernels, of tables of tiles
STRIDES = "n_cols <= LONGEST and n_cols % ALIGN == 0 and in_row_stride % ALIGN == 0 and "
ANY_LENGTH = Tile(threads=1024, block=8192, held=0, longest=ANY)
PLAIN_BACKWARD = (
    *(short(128, block, 16) for block in (32, 256)),
    *(whole(256, most) for most in (2048, 6144)),
    ANY_LENGTH,
)
DOUBLE_BACKWARD = (
    *(short(128, block, 8) for block in (32, 256)),
    *(whole(256, most) for most in (2048, 4096)),
    Tile(threads=512, block=2048, held=0, longest=ANY),
)


def constants(center: bool, *unused: str) -> dict[str, object]:
    """RMSNorm has no means and no bias."""
    return {"CENTER": center} | ({} if center else dict.fromkeys(("mean_ptr", *unused)))


def forward(name: str, tables: Tables, center: bool) -> kpack.Kernel:
    pointers = {"out_ptr": "*T", "in_ptr": "const *T", "weight_ptr": "const *T"}
    args = row_args("out_ptr", "in_ptr") | {"weight_ptr": kpack.in_(bytes="n_cols * sizeof(weight_ptr)")}
    of_rows = {"rstd_ptr": "*W"}
    if center:
        pointers["bias_ptr"] = "const *T"
        of_rows["mean_ptr"] = "*W"
        args["bias_ptr"] = kpack.in_(bytes="n_cols * sizeof(bias_ptr)")
    return kpack.Kernel(
        norm_kernel,
        name=name,
        signature={
            "in_row_stride": "i64",
            "out_row_stride": "i64",
            "n_cols": "i32",
            "n_rows": "i64",
        },
        types={"T": ["fp16", "bf16"]},
        constexprs=constants(center, "bias_ptr"),
        cases=cases(pointers, tables, without=["EDGES", "STAGES"], wide=of_rows | {"eps": "W"}),
        guard=STRIDES + "out_row_stride % ALIGN == 0",
        grid="cdiv(n_rows, ROWS)",
        args=args | {pointer: kpack.out(bytes=f"n_rows * sizeof({pointer})") for pointer in of_rows},
    )


def backward(name: str, tables: Tables, center: bool) -> kpack.Kernel:
    pointers = {"dx_ptr": "*T", "dy_ptr": "const *T", "in_ptr": "const *T", "weight_ptr": "const *T"}
    parts = ["dweight_ptr", "dbias_ptr"] if center else ["dweight_ptr"]
    of_rows = ["mean_ptr", "rstd_ptr"] if center else ["rstd_ptr"]
    args = row_args("dx_ptr", "dy_ptr", "in_ptr")
    args["weight_ptr"] = kpack.in_(bytes="n_cols * sizeof(weight_ptr)")
    args |= {pointer: kpack.out(bytes=f"n_parts * n_cols * sizeof({pointer})") for pointer in parts}
    args |= {pointer: kpack.in_(bytes=f"n_rows * sizeof({pointer})") for pointer in of_rows}
    return kpack.Kernel(
        norm_backward_kernel,
        name=name,
        signature={
            "dx_row_stride": "i64",
            "dy_row_stride": "i64",
            "in_row_stride": "i64",
            "n_cols": "i32",
            "n_rows": "i64",
            "n_parts": "i32",
        },
        types={"T": ["fp16", "bf16"]},
        constexprs=constants(center, "dbias_ptr"),
        cases=cases(
            pointers,
            tables,
            without=["EDGES", "STEP"],
            plain=PLAIN_BACKWARD,
            wide=dict.fromkeys(parts, "*W") | dict.fromkeys(of_rows, "const *W"),
        ),
        guard=STRIDES + "dx_row_stride % ALIGN == 0 and dy_row_stride % ALIGN == 0",
        grid="n_parts",
        args=args,
    )
