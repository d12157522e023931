#include "tensor.h"

namespace kpk {

kpk_status fill_tensors(const LaunchRequest &) { return KPK_ERROR_UNSUPPORTED; }

}  // namespace kpk
