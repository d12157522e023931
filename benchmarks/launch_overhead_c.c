/* See launch_overhead_c.h: each call is put together argument by argument. */
#include "launch_overhead_c.h"

#define OUT kpk_pass_pointer(&call, values->out, KPK_FP64)
#define P(n) kpk_pass_const_pointer(&call, values->p[n], KPK_FP32)
#define I(n) kpk_pass_i32(&call, values->i[n])
#define L(n) kpk_pass_i64(&call, values->l[n])
#define F(n) kpk_pass_fp32(&call, values->f[n])
#define FOUR(X, n) X(n), X(n + 1), X(n + 2), X(n + 3)
#define SIXTEEN(X) FOUR(X, 0), FOUR(X, 4), FOUR(X, 8), FOUR(X, 12)

#define LAUNCH(count, arguments)                                                                     \
  kpk_status launch_c_##count(const kpk_kernel *kernel, kpk_stream stream, const c_values *values) { \
    kpk_call call;                                                                                   \
    kpk_call_begin(&call);                                                                           \
    arguments;                                                                                       \
    return kpk_launch_call(kernel, stream, &call);                                                   \
  }

LAUNCH(0, (void)values)
LAUNCH(7, (OUT, P(0), P(1), I(0), I(1), L(0), F(0)))
LAUNCH(16, (OUT, P(0), P(1), P(2), FOUR(I, 0), FOUR(L, 0), FOUR(F, 0)))
LAUNCH(58, (OUT, FOUR(P, 0), FOUR(P, 4), P(8), SIXTEEN(I), SIXTEEN(L), SIXTEEN(F)))
