//! A Triton kernel in a Rust program, without a crate. Without a CUDA device the dry driver shows what would be launched.

mod gpu;
mod kpack;

use std::ffi::CStr;

extern "C" {
    /// The linker symbol of kernel `row_sum` in libsums.a: without it this program does not link.
    static kpack_kernel_sums_row_sum: kpack::Kernel;
}

const ROWS: usize = 1000;
const COLUMNS: usize = 777;

/// out[row] = the sum of the row: the arguments in the order of the Triton function, then what only the grid names.
fn row_sum(out: *mut f32, x: *const f32) -> Result<String, String> {
    let args = [
        kpack::Arg::out(out),
        kpack::Arg::input(x),
        kpack::Arg::i64(COLUMNS as i64),
        kpack::Arg::i32(COLUMNS as i32),
        kpack::Arg::i32(ROWS as i32),
    ];
    kpack::launch(unsafe { &kpack_kernel_sums_row_sum }, &args)
}

fn show_dry() -> Result<(), String> {
    println!("no CUDA device here: the dry driver shows what would be launched\n");
    kpack::use_dry_driver(CStr::from_bytes_with_nul(b"sm_90\0").expect("text with its NUL"))?;
    let memory = 0x7f00_0000_0000 as *mut f32;
    println!("{}", row_sum(memory, memory)?);
    Ok(())
}

fn run() -> Result<(), String> {
    let gpu = gpu::Gpu::open()?;
    let values: Vec<f32> = (0..ROWS * COLUMNS).map(|i| (i % 101) as f32 / 8.0).collect();
    let (x, out) = (gpu.upload(&values)?, gpu.buffer(ROWS)?);
    row_sum(out.as_ptr(), x.as_ptr())?;
    // Eighths: exact in any order.
    let expected: Vec<f32> = values.chunks(COLUMNS).map(|row| row.iter().sum()).collect();
    let sums = out.download()?;
    println!("row_sum of {} x {} numbers: {} ... {}", ROWS, COLUMNS, sums[0], sums[ROWS - 1]);
    match sums.iter().zip(&expected).position(|(got, want)| got != want) {
        None => Ok(()),
        Some(row) => Err(format!("row {}: expected {}, got {}", row, expected[row], sums[row])),
    }
}

fn main() {
    let done = if kpack::device_count(kpack::CUDA) == 0 { show_dry() } else { run() };
    if let Err(message) = done {
        eprintln!("{}", message);
        std::process::exit(1);
    }
}
