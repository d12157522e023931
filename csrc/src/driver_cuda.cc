// NVIDIA: loading and launching.
//
// Images are loaded through cuLibrary* where the driver has it (12.0): one load serves every context of a
// device. Older drivers load a module into each context. A launch goes through the CUfunction of the current
// context either way, which the driver launches faster than the CUkernel of a library, with the parameter
// block ready made, and through cuLaunchKernelEx where it is: the fastest of the ways there are
// (benchmarks/README.md).

#include "cuda_api.h"
#include "cuda_context.h"
#include "message.h"

namespace kpk::cuda {
namespace {

constexpr int kFuncMaxDynamicShared = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr int kBinaryIsPreserved = 1;     // CU_LIBRARY_BINARY_IS_PRESERVED: .rodata never moves
constexpr uint32_t kDefaultSharedBytes = 48 * 1024;

// CUlaunchAttribute: 72 bytes.
struct LaunchAttribute {
  int id;
  union {
    alignas(8) char bytes[64];
    unsigned cluster[3];
    int value;
  };
};
static_assert(sizeof(LaunchAttribute) == 72, "CUlaunchAttribute of cuda.h");
constexpr int kCooperative = 2, kClusterDimension = 4, kClusterSpread = 5, kStreamSerialization = 6;
constexpr int kSpread = 1;  // CU_CLUSTER_SCHEDULING_POLICY_SPREAD, as Triton launches clusters
constexpr int kFuncNonPortableCluster = 14;  // CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED

kpk_status load_library(const LoadRequest &request, Loaded *out) {
  const kpk_abi_image &image = *request.image;
  if (request.other != nullptr) {
    out->module = request.other->module;
  } else {
    int option = kBinaryIsPreserved;
    void *yes = reinterpret_cast<void *>(uintptr_t{1});
    const void *data = follow<void>(image.data);
    const CUresult code = g_api.library_load(&out->module, data, nullptr, nullptr, 0, &option, &yes, 1);
    if (code != kSuccess) return failed(text(image.symbol), "cuLibraryLoadData", code);
  }
  void *kernel = nullptr;
  const char *call = "cuLibraryGetKernel";
  CUresult code = g_api.library_kernel(&kernel, out->module, text(image.entry));
  if (code == kSuccess) {
    call = "cuKernelGetFunction";
    code = g_api.kernel_function(&out->function, kernel);
  }
  if (code == kSuccess) return KPK_OK;
  if (request.other == nullptr) g_api.library_unload(out->module);
  return failed(text(image.symbol), call, code);
}

kpk_status load_module(const LoadRequest &request, Loaded *out) {
  const kpk_abi_image &image = *request.image;
  CUresult code = g_api.module_load(&out->module, follow<void>(image.data));
  if (code != kSuccess) return failed(text(image.symbol), "cuModuleLoadData", code);
  code = g_api.module_function(&out->function, out->module, text(image.entry));
  if (code == kSuccess) return KPK_OK;
  g_api.module_unload(out->module);
  return failed(text(image.symbol), "cuModuleGetFunction", code);
}

kpk_status unload(const Loaded &loaded, const char *kernel, uint64_t context, bool last) {
  CUresult code = kSuccess;
  if (g_api.has_library) {
    if (last) code = g_api.library_unload(loaded.module);
    return code == kSuccess ? KPK_OK : failed(kernel, "cuLibraryUnload", code);
  }
  void *before = nullptr;
  g_api.ctx_get_current(&before);
  if (g_api.ctx_set_current(reinterpret_cast<void *>(context)) != kSuccess)
    return KPK_OK;  // gone, module and all
  code = g_api.module_unload(loaded.module);
  g_api.ctx_set_current(before);
  return code == kSuccess ? KPK_OK : failed(kernel, "cuModuleUnload", code);
}

kpk_status load(const LoadRequest &request, Loaded *out) {
  const auto least = static_cast<int>(request.image->least_driver);
  if (g_version < least) {
    return fail(KPK_ERROR_LIMIT, "%s: needs a driver of CUDA %d.%d at least, this one is of %d.%d",
                text(request.image->symbol), least / 1000, least % 1000 / 10, g_version / 1000,
                g_version % 1000 / 10);
  }
  if (request.plan->special && g_api.launch_kernel_ex == nullptr) {
    return fail(KPK_ERROR_LIMIT, "%s: needs launch attributes, which drivers have from CUDA 11.8 on",
                text(request.image->symbol));
  }
  if (const kpk_status status = g_api.has_library ? load_library(request, out) : load_module(request, out))
    return status;
  const kpk_abi_image &image = *request.image;
  CUresult code = kSuccess;
  if (image.shared_bytes + image.static_shared_bytes > kDefaultSharedBytes) {
    code = g_api.func_set(out->function, kFuncMaxDynamicShared, static_cast<int>(image.shared_bytes));
  }
  if (code == kSuccess && (image.flags & KPK_IMAGE_NONPORTABLE_CLUSTER) != 0) {
    code = g_api.func_set(out->function, kFuncNonPortableCluster, 1);
  }
  if (code == kSuccess) return KPK_OK;
  const bool last = request.other == nullptr;
  if (g_api.has_library && last) g_api.library_unload(out->module);
  if (!g_api.has_library) g_api.module_unload(out->module);
  return failed(text(image.symbol), "cuFuncSetAttribute", code);
}

// A launch failed: if the stream is of another context than the current one, that is why.
kpk_status refused(const LaunchRequest &request, const char *call, CUresult code) {
  const char *symbol = text(request.plan->image->symbol);
  void *context = nullptr;
  uint64_t here = 0, there = 0;
  const bool default_stream = is_default_stream(request.stream);
  if (default_stream || g_api.stream_get_ctx(request.stream, &context) != kSuccess ||
      id_of(nullptr, &here) != kSuccess || id_of(context, &there) != kSuccess || here == there) {
    return failed(symbol, call, code);
  }
  const Device *device = device_of_context(there);
  return fail(KPK_ERROR_STREAM,
              "%s: expected a stream of the thread's current context (device %d), got one of another (device "
              "%s): make "
              "the stream's context current",
              symbol, request.device->ordinal, device == nullptr ? "unknown" : device->arch);
}

// Fills what the image asks for beyond a plain launch; how many.
unsigned fill_attributes(const kpk_abi_image &image, LaunchAttribute *out) {
  unsigned count = 0;
  if (image.cluster[0] * image.cluster[1] * image.cluster[2] > 1) {
    LaunchAttribute &dimension = out[count++];
    dimension.id = kClusterDimension;
    for (int axis = 0; axis < 3; ++axis) dimension.cluster[axis] = image.cluster[axis];
    out[count].id = kClusterSpread;
    out[count++].value = kSpread;
  }
  if ((image.flags & KPK_IMAGE_COOPERATIVE) != 0) {
    out[count].id = kCooperative;
    out[count++].value = 1;
  }
  if ((image.flags & KPK_IMAGE_PDL) != 0) {
    out[count].id = kStreamSerialization;
    out[count++].value = 1;
  }
  return count;
}

// Apart, so that a plain launch does not make room for attributes.
[[gnu::noinline]] CUresult launch_special(const kpk_abi_image &image, LaunchConfig *config, void *function,
                                          void **extra) {
  LaunchAttribute attributes[4] = {};
  config->attributes = attributes;
  config->attribute_count = fill_attributes(image, attributes);
  return g_api.launch_kernel_ex(config, function, nullptr, extra);
}

kpk_status launch(const LaunchRequest &request) {
  const Plan &plan = *request.plan;
  size_t bytes = plan.param_bytes;
  // CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END
  void *extra[] = {reinterpret_cast<void *>(uintptr_t{1}), request.params,
                   reinterpret_cast<void *>(uintptr_t{2}), &bytes, nullptr};
  const uint32_t *grid = request.grid;
  if (g_api.launch_kernel_ex != nullptr) {
    LaunchConfig config = {
        {grid[0], grid[1], grid[2]}, {plan.block, 1, 1}, plan.shared_bytes, request.stream, nullptr, 0};
    const CUresult code = plan.special ? launch_special(*plan.image, &config, plan.function, extra)
                                       : g_api.launch_kernel_ex(&config, plan.function, nullptr, extra);
    return code == kSuccess ? KPK_OK : refused(request, "cuLaunchKernelEx", code);
  }
  const CUresult code = g_api.launch_kernel(plan.function, grid[0], grid[1], grid[2], plan.block, 1, 1,
                                            plan.shared_bytes, request.stream, nullptr, extra);
  return code == kSuccess ? KPK_OK : refused(request, "cuLaunchKernel", code);
}

kpk_status allocate(void *stream, size_t bytes, const char *symbol, uint64_t *address) {
  if (g_api.alloc_async == nullptr || g_api.free_async == nullptr) {
    return fail(KPK_ERROR_LIMIT, "%s: needs stream-ordered memory, which drivers have from CUDA 11.2 on",
                symbol);
  }
  const CUresult code = g_api.alloc_async(address, bytes, stream);
  return code == kSuccess ? KPK_OK : failed(symbol, "cuMemAllocAsync", code);
}

kpk_status give_back(void *stream, uint64_t address, const char *symbol) {
  const CUresult code = g_api.free_async(address, stream);
  return code == kSuccess ? KPK_OK : failed(symbol, "cuMemFreeAsync", code);
}

kpk_status skip(const Device &, const char *) { return KPK_OK; }

}  // namespace

const Driver kDriver = {"CUDA", place_of, context_of, load, unload, launch, allocate, give_back, skip};

}  // namespace kpk::cuda
