/* What budget.cc and budget_c.c launch with. */
#ifndef KPACK_TESTS_BUDGET_H
#define KPACK_TESTS_BUDGET_H

#include <kpack/kpack.h>

struct CUstream_st;

#ifdef __cplusplus
extern "C" {
#endif

/* Values come from memory, as a caller's do; the compiler must not know them. */
typedef struct values {
  double *result;
  const float *p;
  int32_t i;
  int64_t l;
  float f;
  struct CUstream_st *stream; /* the default one, of a type that says whose */
} values;
extern values given;

/* budget_c.c: the status of the first launch that fails, or KPK_OK. */
kpk_status budget_call_c_nothing(const kpk_kernel *kernel, int count);
kpk_status budget_call_c_args7(const kpk_kernel *kernel, int count);
kpk_status budget_call_c_args16(const kpk_kernel *kernel, int count);
kpk_status budget_call_c_args58(const kpk_kernel *kernel, int count);

#ifdef __cplusplus
}
#endif
#endif
