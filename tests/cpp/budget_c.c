/* The launches of budget.cc, as a C program makes them. */
#include "budget.h"

#define POINTER kpk_pass_const_pointer(&call, given.p, KPK_FP32)
#define I32 kpk_pass_i32(&call, given.i)
#define I64 kpk_pass_i64(&call, given.l)
#define FP32 kpk_pass_fp32(&call, given.f)
#define RESULT kpk_pass_pointer(&call, given.result, KPK_FP64)
#define FOUR(each) each, each, each, each
#define SIXTEEN(each) FOUR(each), FOUR(each), FOUR(each), FOUR(each)

#define WAY(name, arguments)                                                                       \
  __attribute__((noinline)) kpk_status budget_call_c_##name(const kpk_kernel *kernel, int count) { \
    const kpk_stream on = {given.stream, KPK_VENDOR_CUDA, 0};                                      \
    kpk_status status = KPK_OK;                                                                    \
    int n;                                                                                         \
    for (n = 0; n < count && status == KPK_OK; ++n) {                                              \
      kpk_call call;                                                                               \
      kpk_call_begin(&call);                                                                       \
      arguments;                                                                                   \
      status = kpk_launch_call(kernel, on, &call);                                                 \
    }                                                                                              \
    return status;                                                                                 \
  }

WAY(nothing, (void)0)
WAY(args7, (RESULT, POINTER, POINTER, I32, I32, I64, FP32))
WAY(args16, (RESULT, POINTER, POINTER, POINTER, FOUR(I32), FOUR(I64), FOUR(FP32)))
WAY(args58, (RESULT, POINTER, FOUR(POINTER), FOUR(POINTER), SIXTEEN(I32), SIXTEEN(I64), SIXTEEN(FP32)))
