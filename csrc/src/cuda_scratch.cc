// NVIDIA: memory that lives in a stream.

#include "cuda_scratch.h"

#include "cuda_api.h"
#include "message.h"

namespace kpk::cuda {

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

kpk_status zero(void *, uint64_t, size_t, const char *) { return KPK_ERROR_UNSUPPORTED; }
kpk_status reserve(const Device &, size_t) { return KPK_ERROR_UNSUPPORTED; }

}  // namespace kpk::cuda
