#include "scratch.h"

#include <cstring>

#include "message.h"

namespace kpk {

// With scratch memory, allocated and given back in the stream's order, so that graphs can capture it too.
kpk_status launch_with_scratch(const LaunchRequest &request) {
  const Driver &driver = *request.device->driver;
  const kpk_abi_image &image = *request.plan->image;
  const char *symbol = text(image.symbol);
  // Drivers align to 256 bytes at least.
  const uint64_t align = image.global_scratch_align > 256 ? image.global_scratch_align : 1;
  uint64_t bytes = image.global_scratch_bytes;
  bool overflow = false;
  for (const uint32_t blocks : request.grid)
    overflow |= __builtin_mul_overflow(bytes, uint64_t{blocks}, &bytes);
  if (overflow || __builtin_add_overflow(bytes, align - 1, &bytes)) {
    return fail(KPK_ERROR_MEMORY, "%s: needs more scratch memory for this grid than there are addresses",
                symbol);
  }
  uint64_t memory = 0;
  if (const kpk_status status = driver.allocate(request.stream, bytes, symbol, &memory)) return status;
  const uint64_t aligned = (memory + align - 1) / align * align;
  std::memcpy(request.params + request.plan->scratch_offset, &aligned, sizeof aligned);
  const kpk_status status = driver.launch(request);
  const kpk_status given_back = driver.give_back(request.stream, memory, symbol);
  return status == KPK_OK ? given_back : status;
}

}  // namespace kpk

extern "C" {

kpk_status kpk_set_scratch(uint32_t, const kpk_scratch_hook *) { return KPK_ERROR_UNSUPPORTED; }
kpk_status kpk_reserve_scratch(kpk_device, uint64_t) { return KPK_ERROR_UNSUPPORTED; }

}  // extern "C"
