// What launch_peers.py compares with: kernel args7 of tests/cpp/kernels.py through the cubin launcher of apache-tvm-ffi, as
// its documentation has it. Built there, against the wheel's headers and the CUDA runtime.
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/extra/cuda/cubin_launcher.h>
#include <tvm/ffi/function.h>

#include <chrono>
#include <memory>

namespace {

namespace ffi = tvm::ffi;

struct Loaded {
  explicit Loaded(const ffi::Bytes &cubin, const char *name)
      : module(cubin), kernel(module.GetKernel(name)) {}
  ffi::CubinModule module;
  ffi::CubinKernel kernel;
};
std::unique_ptr<Loaded> loaded;
uint32_t threads, shared_bytes;

void load_cubin(const ffi::Bytes &cubin, const ffi::String &name, int64_t block, int64_t shared) {
  loaded = std::make_unique<Loaded>(cubin, name.c_str());
  threads = static_cast<uint32_t>(block);
  shared_bytes = static_cast<uint32_t>(shared);
}

void launch_args7(ffi::TensorView out, ffi::TensorView p0, ffi::TensorView p1, int32_t i0, int32_t i1,
                  int64_t l0, double f0) {
  const DLDevice device = out.device();
  auto *stream =
      static_cast<ffi::cuda_api::StreamHandle>(TVMFFIEnvGetStream(device.device_type, device.device_id));
  void *addresses[] = {out.data_ptr(), p0.data_ptr(), p1.data_ptr()};
  void *scratch = nullptr;  // Triton's hidden arguments
  float number = static_cast<float>(f0);
  void *args[] = {&addresses[0], &addresses[1], &addresses[2], &i0, &i1, &l0, &number, &scratch, &scratch};
  TVM_FFI_CHECK_CUBIN_LAUNCHER_CUDA_ERROR(
      loaded->kernel.Launch(args, ffi::dim3(1), ffi::dim3(threads), stream, shared_bytes));
}

// Nanoseconds of one such launch where C++ calls it.
double time_from_cpp(ffi::TensorView out, ffi::TensorView p0, ffi::TensorView p1, int64_t count) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t n = 0; n < count; ++n) launch_args7(out, p0, p1, 10, 11, 1000, 0.5);
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  return took.count() / static_cast<double>(count);
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(load_cubin, load_cubin)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(launch_args7, launch_args7)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(time_from_cpp, time_from_cpp)
