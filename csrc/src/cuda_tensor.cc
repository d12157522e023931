// NVIDIA: tensor maps (CUDA Driver API, Tensor Map Object Management).

#include "cuda_tensor.h"

#include "cuda_api.h"
#include "message.h"

namespace kpk::cuda {

kpk_status encode(const kpk_tensor &, const kpk_abi_tensordesc &, const char *, void *) {
  return KPK_ERROR_UNSUPPORTED;
}

}  // namespace kpk::cuda
