// NVIDIA: loading. Images are loaded through cuLibrary* where the driver has it (12.0): one load serves every
// context of a device. Older drivers load a module into each context.

#include "cuda_load.h"

#include "cuda_api.h"
#include "message.h"

namespace kpk::cuda {
namespace {

constexpr int kFuncMaxDynamicShared = 8;     // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr int kFuncNonPortableCluster = 14;  // CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
constexpr int kBinaryIsPreserved = 1;        // CU_LIBRARY_BINARY_IS_PRESERVED: .rodata never moves
constexpr uint32_t kDefaultSharedBytes = 48 * 1024;

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

}  // namespace

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

}  // namespace kpk::cuda
