//! Device memory without a GPU SDK: the few driver calls that this example needs, of CUDA. A real program has an
//! allocator of its own; kpack neither allocates nor copies.

use std::ffi::{c_void, CStr};
use std::os::raw::{c_char, c_int};

extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}
const RTLD_NOW: c_int = 2;

type Result<T> = std::result::Result<T, String>;

pub struct Gpu {
    allocate: unsafe extern "C" fn(*mut u64, usize) -> c_int,
    release: unsafe extern "C" fn(u64) -> c_int,
    to_device: unsafe extern "C" fn(u64, *const c_void, usize) -> c_int,
    to_host: unsafe extern "C" fn(*mut c_void, u64, usize) -> c_int,
}

/// Numbers in device memory, given back when dropped.
pub struct Buffer<'a> {
    gpu: &'a Gpu,
    address: u64,
    len: usize,
}

fn c(text: &'static [u8]) -> &'static CStr {
    CStr::from_bytes_with_nul(text).expect("text with its NUL")
}

/// `F` must be the type of the function that the library has under this name.
unsafe fn symbol<F: Copy>(library: *mut c_void, name: &'static [u8]) -> Result<F> {
    let found = dlsym(library, c(name).as_ptr());
    if found.is_null() {
        return Err(format!("libcuda.so.1: expected {:?}, got no such symbol", c(name)));
    }
    assert_eq!(std::mem::size_of::<F>(), std::mem::size_of_val(&found));
    Ok(std::mem::transmute_copy(&found))
}

fn check(code: c_int, what: &str) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(format!("{}: the driver returned {}", what, code))
    }
}

impl Gpu {
    /// Device 0, current in this thread.
    pub fn open() -> Result<Gpu> {
        unsafe {
            let library = dlopen(c(b"libcuda.so.1\0").as_ptr(), RTLD_NOW);
            if library.is_null() {
                return Err("libcuda.so.1: expected CUDA's driver, got no such library".to_string());
            }
            let init: unsafe extern "C" fn(u32) -> c_int = symbol(library, b"cuInit\0")?;
            let retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int =
                symbol(library, b"cuDevicePrimaryCtxRetain\0")?;
            let set_current: unsafe extern "C" fn(*mut c_void) -> c_int = symbol(library, b"cuCtxSetCurrent\0")?;
            let mut context = std::ptr::null_mut();
            check(init(0), "cuInit")?;
            check(retain(&mut context, 0), "cuDevicePrimaryCtxRetain")?;
            check(set_current(context), "cuCtxSetCurrent")?;
            Ok(Gpu {
                allocate: symbol(library, b"cuMemAlloc_v2\0")?,
                release: symbol(library, b"cuMemFree_v2\0")?,
                to_device: symbol(library, b"cuMemcpyHtoD_v2\0")?,
                to_host: symbol(library, b"cuMemcpyDtoH_v2\0")?,
            })
        }
    }
    pub fn buffer(&self, len: usize) -> Result<Buffer<'_>> {
        let mut address = 0;
        check(unsafe { (self.allocate)(&mut address, len * 4) }, "device memory")?;
        Ok(Buffer { gpu: self, address, len })
    }
    pub fn upload(&self, values: &[f32]) -> Result<Buffer<'_>> {
        let buffer = self.buffer(values.len())?;
        let code = unsafe { (self.to_device)(buffer.address, values.as_ptr().cast(), values.len() * 4) };
        check(code, "copy to the device")?;
        Ok(buffer)
    }
}

impl Buffer<'_> {
    pub fn as_ptr(&self) -> *mut f32 {
        self.address as *mut f32
    }
    /// Waits for the launches before it.
    pub fn download(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.len];
        let code = unsafe { (self.gpu.to_host)(values.as_mut_ptr().cast(), self.address, self.len * 4) };
        check(code, "copy to the host")?;
        Ok(values)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        unsafe { (self.gpu.release)(self.address) };
    }
}
