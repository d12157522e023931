/* See calls.h. */
#include "calls.h"

#ifndef CALLS
#define CALLS calls_c
#define LANGUAGE "C"
#endif

#ifdef __cplusplus
#define TO_POINTER(type, bits) reinterpret_cast<type *>(KPK_AS(uintptr_t, bits))
#else
#define TO_POINTER(type, bits) ((type *)(uintptr_t)(bits))
#endif

/* 0: the value is none of this type. */
static int pass_integer(kpk_call *call, uint64_t bits, uint8_t type) {
#define PASS(code, ctype, name)                                  \
  case code:                                                     \
    if (KPK_AS(uint64_t, KPK_AS(ctype, bits)) != bits) return 0; \
    kpk_pass_##name(call, KPK_AS(ctype, bits));                  \
    return 1;
  switch (type) {
    case KPK_I1:
      if (bits > 1) return 0;
      kpk_pass_i1(call, bits == 0 ? 0 : -3); /* any number but 0 is true */
      return 1;
      PASS(KPK_I8, int8_t, i8)
      PASS(KPK_I16, int16_t, i16)
      PASS(KPK_I32, int32_t, i32)
      PASS(KPK_I64, int64_t, i64)
      PASS(KPK_U8, uint8_t, u8)
      PASS(KPK_U16, uint16_t, u16)
      PASS(KPK_U32, uint32_t, u32)
      PASS(KPK_U64, uint64_t, u64)
    default: return 0;
  }
}

static int pass_floating(kpk_call *call, uint64_t bits, uint8_t type) {
  double value, again;
  memcpy(&value, &bits, sizeof value);
  if (type == KPK_FP64) return kpk_pass_fp64(call, value), 1;
  if (type != KPK_FP32 || value > 1e38 || value < -1e38) return 0;
  again = KPK_AS(double, KPK_AS(float, value));
  if (memcmp(&value, &again, sizeof value) != 0) return 0;
  return kpk_pass_fp32(call, KPK_AS(float, value)), 1;
}

static void pass(kpk_call *call, const kpk_arg *arg) {
  const uint8_t element = KPK_U8(arg->type & 31);
  if ((arg->type & KPK_POINTER) != 0) {
    if (arg->type == KPK_POINTER && arg->bits == 0) {
      kpk_pass_null(call);
    } else if ((arg->flags & KPK_PARAM_CONST) != 0) {
      kpk_pass_const_pointer(call, TO_POINTER(const void, arg->bits), element);
    } else {
      kpk_pass_pointer(call, TO_POINTER(void, arg->bits), element);
    }
  } else if (arg->type == (KPK_TENSORDESC | element)) {
    const kpk_tensor *tensor = TO_POINTER(const kpk_tensor, arg->bits);
    if ((arg->flags & KPK_PARAM_CONST) != 0) {
      kpk_pass_const_tensor(call, tensor, element);
    } else {
      kpk_pass_tensor(call, tensor, element);
    }
  } else if (arg->type == KPK_STRING) {
    kpk_pass_text(call, TO_POINTER(const char, arg->bits));
  } else if (arg->type == KPK_DTYPE) {
    kpk_pass_dtype(call, KPK_AS(uint8_t, arg->bits));
  } else if (!pass_integer(call, arg->bits, arg->type) && !pass_floating(call, arg->bits, arg->type)) {
    kpk_pass_arg(call, arg->bits, arg->type, arg->flags);
  }
}

static void fill(kpk_call *call, const kpk_arg *args, uint32_t count) {
  uint32_t i;
  kpk_call_begin(call);
  for (i = 0; i < count; ++i) pass(call, &args[i]);
}

static int end(kpk_call *call) { return kpk_call_end(call); }

static kpk_status launch(const kpk_kernel *kernel, kpk_stream stream, kpk_call *call) {
  return kpk_launch_call(kernel, stream, call);
}

static kpk_status launch_bound(const kpk_bound *bound, kpk_stream stream, kpk_call *call) {
  return kpk_launch_bound_call(bound, stream, call);
}

static kpk_status launch_numbers(const kpk_kernel *kernel, kpk_stream stream, const number_args *given) {
  kpk_call call;
  kpk_call_begin(&call);
  kpk_pass_pointer(&call, given->out, KPK_FP64);
  kpk_pass_i1(&call, given->i1);
  kpk_pass_i8(&call, given->i8);
  kpk_pass_i16(&call, given->i16);
  kpk_pass_i32(&call, given->i32);
  kpk_pass_i64(&call, given->i64);
  kpk_pass_u8(&call, given->u8);
  kpk_pass_u16(&call, given->u16);
  kpk_pass_u32(&call, given->u32);
  kpk_pass_u64(&call, given->u64);
  kpk_pass_fp32(&call, given->fp32);
  kpk_pass_fp64(&call, given->fp64);
  return kpk_launch_call(kernel, stream, &call);
}

static kpk_status launch_7(const kpk_kernel *kernel, kpk_stream stream, double *out, const float *p,
                           const float *q, int32_t i, int32_t j, int64_t l, float f) {
  kpk_call call;
  kpk_call_begin(&call);
  kpk_pass_pointer(&call, out, KPK_FP64);
  kpk_pass_const_pointer(&call, p, KPK_FP32);
  kpk_pass_const_pointer(&call, q, KPK_FP32);
  kpk_pass_i32(&call, i);
  kpk_pass_i32(&call, j);
  kpk_pass_i64(&call, l);
  kpk_pass_fp32(&call, f);
  return kpk_launch_call(kernel, stream, &call);
}

const calls CALLS = {LANGUAGE, fill, end, launch, launch_bound, launch_numbers, launch_7};
