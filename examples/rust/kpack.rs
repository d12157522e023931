//! The part of kpack.h that a launch needs. The library is C: no crate, no bindgen.

use std::ffi::{c_void, CStr};
use std::os::raw::{c_char, c_int};

// Of abi.h and kpack.h.
const I32: u8 = 4;
const I64: u8 = 5;
const FP32: u8 = 12;
const POINTER: u8 = 128;
const CONST: u8 = 1;
const OK: c_int = 0;
const DRY: c_int = 1;
pub const CUDA: i32 = 1;

/// A linked kernel: `extern "C" { static kpack_kernel_<pack>_<kernel>: Kernel; }`.
#[repr(C)]
pub struct Kernel {
    _opaque: [u8; 0],
}

/// One argument (kpk_arg).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arg {
    bits: u64,
    code: u8, // of the type: abi.h
    flags: u8,
    reserved: u16,
    reserved2: u32,
}

impl Arg {
    const fn new(bits: u64, code: u8, flags: u8) -> Arg {
        Arg { bits, code, flags, reserved: 0, reserved2: 0 }
    }
    pub fn out(address: *mut f32) -> Arg {
        Arg::new(address as u64, POINTER | FP32, 0)
    }
    pub fn input(address: *const f32) -> Arg {
        Arg::new(address as u64, POINTER | FP32, CONST)
    }
    pub fn i32(value: i32) -> Arg {
        Arg::new(value as i64 as u64, I32, 0)
    }
    pub fn i64(value: i64) -> Arg {
        Arg::new(value as u64, I64, 0)
    }
}

#[repr(C)]
struct Stream {
    handle: *mut c_void,
    vendor: i32,
    reserved: i32,
}

extern "C" {
    fn kpk_launch(kernel: &Kernel, stream: Stream, args: *const Arg, count: u32, signature: u64) -> c_int;
    fn kpk_message() -> *const c_char;
    fn kpk_device_count(vendor: i32) -> c_int;
    fn kpk_use_dry_driver(arch: *const c_char, succeed: c_int) -> c_int;
}

/// Launches on the default stream. `Ok` of text: what the dry driver would have launched; it is empty after a launch.
pub fn launch(kernel: &Kernel, args: &[Arg]) -> Result<String, String> {
    let stream = Stream { handle: std::ptr::null_mut(), vendor: 0, reserved: 0 };
    let status = unsafe { kpk_launch(kernel, stream, args.as_ptr(), args.len() as u32, 0) };
    match status {
        OK => Ok(String::new()),
        DRY => Ok(message()),
        _ => Err(message()),
    }
}
pub fn device_count(vendor: i32) -> i32 {
    unsafe { kpk_device_count(vendor) }
}
pub fn use_dry_driver(arch: &CStr) -> Result<(), String> {
    match unsafe { kpk_use_dry_driver(arch.as_ptr(), 0) } {
        OK => Ok(()),
        _ => Err(message()),
    }
}
fn message() -> String {
    unsafe { CStr::from_ptr(kpk_message()) }.to_string_lossy().into_owned()
}
