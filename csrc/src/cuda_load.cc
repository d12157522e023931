// NVIDIA: loading. An image becomes a module of each context it is launched in. cuLibrary* would load it once for
// all of them, but takes a third longer for the first (benchmarks/README.md), and most programs have one context.

#include "cuda_load.h"

#include <cstring>

#include "cuda_api.h"
#include "cuda_context.h"
#include "message.h"
#include "proof.h"
#include "relaxed_capture.h"

namespace kpk::cuda {
namespace {

constexpr int kFuncMaxThreads = 0, kFuncStaticShared = 1, kFuncRegisters = 4;  // CU_FUNC_ATTRIBUTE_...
constexpr int kFuncMaxDynamicShared = 8, kFuncNonPortableCluster = 14;
constexpr int kJitErrorLog = 5, kJitErrorLogBytes = 6;  // CU_JIT_ERROR_LOG_BUFFER, ..._SIZE_BYTES
constexpr uint32_t kDefaultSharedBytes = 48 * 1024;

// CUDA_ERROR_...
constexpr CUresult kInvalidImage = 200, kNoBinaryForGpu = 209, kInvalidPtx = 218, kNoJitCompiler = 221,
                   kUnsupportedPtx = 222, kJitDisabled = 223, kCaptureUnsupported = 900;

bool is_about_ptx(CUresult code) {
  return code == kInvalidPtx || code == kNoJitCompiler || code == kUnsupportedPtx || code == kJitDisabled;
}

// The device, or the driver for it, does not take this image; it may take another one.
bool is_about_image(CUresult code) {
  return code == kInvalidImage || code == kNoBinaryForGpu || is_about_ptx(code);
}

// Adds to the message of this thread.
kpk_status add_words(kpk_status status, const char *between, const char *more) {
  char words[1024];
  Text(words, sizeof words).add("%s", kpk_message());
  return fail(status, "%s%s%s", words, between, more);
}

// What the compiler in the driver says of a PTX that it refused: its first line. Asked for by loading it once more.
void read_jit_log(const kpk_abi_image &image, char *log, size_t bytes) {
  *log = '\0';
  if (g_api.module_load_ex == nullptr) return;
  int options[] = {kJitErrorLog, kJitErrorLogBytes};
  void *values[] = {log, reinterpret_cast<void *>(bytes - 1)};
  void *module = nullptr;
  const CUresult code = g_api.module_load_ex(&module, follow<void>(image.data), 2, options, values);
  if (code == kSuccess) g_api.module_unload(module);
  log[bytes - 1] = '\0';
  log[std::strcspn(log, "\r\n")] = '\0';
}

[[gnu::cold]] kpk_status load_failed(const LoadRequest &request, const char *call, CUresult code) {
  kpk_status status = failed(text(request.image->symbol), call, code);
  if (code == kCaptureUnsupported)
    return add_words(status, "; ", "load before the capture begins (kpk_preload)");
  if (!is_about_image(code)) return status;
  status = KPK_ERROR_NO_IMAGE;
  char log[512] = "";
  if (is_about_ptx(code)) read_jit_log(*request.image, log, sizeof log);
  return add_words(status, *log == '\0' ? "" : ": ", log);
}

kpk_status load_module(const LoadRequest &request, Loaded *out) {
  const kpk_abi_image &image = *request.image;
  CUresult code = g_api.module_load(&out->module, follow<void>(image.data));
  if (code != kSuccess) return load_failed(request, "cuModuleLoadData", code);
  code = g_api.module_function(&out->function, out->module, text(image.entry));
  if (code == kSuccess) return KPK_OK;
  g_api.module_unload(out->module);
  return load_failed(request, "cuModuleGetFunction", code);
}

// What a launch of the function needs to be allowed.
kpk_status opt_in(const kpk_abi_image &image, void *function) {
  CUresult code = kSuccess;
  if (uint64_t{image.shared_bytes} + image.static_shared_bytes > kDefaultSharedBytes) {
    code = g_api.func_set(function, kFuncMaxDynamicShared, static_cast<int>(image.shared_bytes));
  }
  if (code == kSuccess && (image.flags & KPK_IMAGE_NONPORTABLE_CLUSTER) != 0) {
    code = g_api.func_set(function, kFuncNonPortableCluster, 1);
  }
  return code == kSuccess ? KPK_OK : failed(text(image.symbol), "cuFuncSetAttribute", code);
}

uint32_t attribute_of(void *function, int which) {
  int value = 0;
  return g_api.func_get(&value, which, function) == kSuccess && value > 0 ? static_cast<uint32_t>(value) : 0;
}

bool param_of_function(void *function, uint32_t index, Param *out) {
  size_t offset = 0, size = 0;
  if (g_api.param_info(function, index, &offset, &size) != kSuccess) return false;
  *out = {static_cast<uint32_t>(offset), static_cast<uint32_t>(size)};
  return true;
}

// A cubin is what its own note says; asking the driver would take a tenth of a first launch (the first word on a
// function's parameters takes it 2 to 3 us: H200, driver 580). PTX has no note: there it is the driver's word.
kpk_status prove_function(const LoadRequest &request, void *function) {
  const kpk_abi_image &image = *request.image;
  const uint8_t kind = request.view->target(image).kind;
  Note note;
  Word word{};
  if (kind != KPK_IMAGE_PTX) {
    if (const kpk_status status = word_of_image(image, kind, &note, &word)) return status;
  } else {
    word.whose = "the driver";
    word.param = g_api.param_info == nullptr ? nullptr : param_of_function;
    word.from = function;
    word.max_threads = attribute_of(function, kFuncMaxThreads);
    word.static_shared_bytes = attribute_of(function, kFuncStaticShared);
    word.registers = attribute_of(function, kFuncRegisters);
  }
  return prove(image, *request.device, word);
}

// How many of its clusters the device runs at once says whether it runs one at all.
kpk_status prove_clusters(const LoadRequest &request, void *function) {
  const kpk_abi_image &image = *request.image;
  Plan plan = *request.plan;
  plan.function = function;
  int clusters = 1;
  const kpk_status status = clusters_at_once(plan, text(image.symbol), &clusters);
  if (status != KPK_OK || clusters > 0) return status;
  return fail(KPK_ERROR_LIMIT, "%s: needs clusters of %u x %u x %u blocks, of which %s cannot run one",
              text(image.symbol), image.cluster[0], image.cluster[1], image.cluster[2], request.device->arch);
}

kpk_status finish(const LoadRequest &request, void *function) {
  if (const kpk_status status = prove_function(request, function)) return status;
  if (const kpk_status status = opt_in(*request.image, function)) return status;
  return prove_clusters(request, function);
}

kpk_status load_here(const LoadRequest &request, Loaded *out) {
  if (const kpk_status status = load_module(request, out)) return status;
  const kpk_status status = finish(request, out->function);
  if (status != KPK_OK) g_api.module_unload(out->module);
  return status;
}

}  // namespace

kpk_status accepts(const LoadRequest &request) {
  const char *symbol = text(request.image->symbol);
  const auto least = static_cast<int>(request.image->least_driver);
  if (g_version < least) {
    return fail(KPK_ERROR_NO_IMAGE, "%s: needs a driver of CUDA %d.%d at least, this one is of %d.%d", symbol,
                least / 1000, least % 1000 / 10, g_version / 1000, g_version % 1000 / 10);
  }
  if (has_attributes(*request.image, *request.device) && g_api.launch_kernel_ex == nullptr) {
    return fail(KPK_ERROR_NO_IMAGE, "%s: needs launch attributes, which drivers have from CUDA 11.8 on",
                symbol);
  }
  return KPK_OK;
}

kpk_status unload(const Device &device, const Loaded &loaded, const char *kernel, uint64_t context) {
  void *before = nullptr;
  bool changed = false;
  // A context that is gone took its modules along. One of the program's own that is not current may be gone, so
  // its modules stay until it is.
  if (enter_context(device, context, kernel, &before, &changed) != KPK_OK) return KPK_OK;
  const CUresult code = g_api.module_unload(loaded.module);
  if (changed) leave(before);
  return code == kSuccess ? KPK_OK : failed(kernel, "cuModuleUnload", code);
}

kpk_status load(const LoadRequest &request, Loaded *out) {
  if (const kpk_status status = accepts(request)) return status;
  // Older drivers refuse to load while this thread, or any thread in global mode, captures a stream.
  const RelaxedCapture relaxed(g_api.exchange_capture_mode);
  void *before = nullptr;
  bool changed = false;
  const kpk_status entered =
      enter_context(*request.device, request.context, text(request.image->symbol), &before, &changed);
  if (entered != KPK_OK) return entered;
  const kpk_status status = load_here(request, out);
  if (changed) leave(before);
  return status;
}

}  // namespace kpk::cuda
