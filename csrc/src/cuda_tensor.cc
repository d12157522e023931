// NVIDIA: tensor maps (CUDA Driver API, Tensor Map Object Management). The driver counts dimensions from the
// innermost one, Triton and kpk_tensor from the outermost.

#include "cuda_tensor.h"

#include <cstring>

#include "cuda_api.h"
#include "message.h"
#include "types.h"

namespace kpk::cuda {
namespace {

// CUtensorMapDataType. The fp8 types are bytes; Triton agrees (tensordesc_meta, elem_type), the order of
// whose numbers is PTX's.
enum : int {
  kUint8 = 0,
  kUint16 = 1,
  kUint32 = 2,
  kInt32 = 3,
  kUint64 = 4,
  kInt64 = 5,
  kFloat16 = 6,
  kFloat32 = 7,
  kFloat64 = 8,
  kBfloat16 = 9,
  kTfloat32 = 11,
  kSixteenU4In16 = 14  // CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B: of two packed fp4 a byte, 8 bytes in 16
};
constexpr uint32_t kFp4Align = 32, kFp4Row = 128;  // bytes; numbers
constexpr int kInterleaveNone = 0, kPromote128Bytes = 2;
constexpr int kFillZero = 0, kFillNan = 1;  // NAN_REQUEST_ZERO_FMA

constexpr int kLastDriverToFix = 13010;
constexpr uint64_t kSmallBytes = 128 * 1024;
constexpr uint64_t kSmallBit = uint64_t{1} << 21;  // of word 1 of a map

// What a map is encoded from, as the driver takes it.
struct Fields {
  bool im2col;
  int type;
  uint32_t rank;
  uint64_t address;
  uint64_t shape[5];
  uint64_t strides[5];  // bytes, of every dimension but the innermost: rank - 1
  uint32_t box[5];      // im2col: channels, pixels
  uint32_t element_strides[5];
  int lower_corner[3];
  int upper_corner[3];
  int swizzle;
  int fill;
};

int map_type(const kpk_abi_tensordesc &wanted, const kpk_tensor &tensor) {
  if ((wanted.flags & KPK_DESC_FP4_PADDED) != 0) return kSixteenU4In16;
  switch (wanted.type) {
    case KPK_I32: return kInt32;
    case KPK_I64: return kInt64;
    case KPK_FP16: return kFloat16;
    case KPK_BF16: return kBfloat16;
    case KPK_FP32: return (tensor.flags & KPK_TENSOR_ROUND_TF32) != 0 ? kTfloat32 : kFloat32;
    case KPK_FP64: return kFloat64;
    default: break;
  }
  return wanted.element_bytes == 1   ? kUint8
         : wanted.element_bytes == 2 ? kUint16
         : wanted.element_bytes == 4 ? kUint32
                                     : kUint64;
}

bool is_floating(int type) { return (type >= kFloat16 && type <= kBfloat16) || type == kTfloat32; }

void reverse_corners(const kpk_tensor &tensor, Fields *out) {
  const uint32_t spatial = tensor.rank < 3 ? 0 : tensor.rank - 2u;
  for (uint32_t i = 0; i < spatial; ++i) {
    out->lower_corner[i] = tensor.lower_corner[spatial - 1 - i];
    out->upper_corner[i] = tensor.upper_corner[spatial - 1 - i];
  }
}

Fields read_fields(const kpk_tensor &tensor, const kpk_abi_tensordesc &wanted) {
  Fields out = {};
  out.im2col = (wanted.flags & KPK_DESC_IM2COL) != 0;
  out.type = map_type(wanted, tensor);
  out.rank = tensor.rank;
  out.address = tensor.address;
  out.swizzle = wanted.swizzle;
  out.fill = (tensor.flags & KPK_TENSOR_NAN_PADDING) != 0 ? kFillNan : kFillZero;
  for (uint32_t i = 0; i < out.rank; ++i) {
    const uint32_t outer = out.rank - 1 - i;
    out.shape[i] = static_cast<uint64_t>(tensor.shape[outer]);
    if (i != 0) out.strides[i - 1] = static_cast<uint64_t>(tensor.strides[outer]) * wanted.element_bytes;
    const uint32_t step = out.im2col ? tensor.element_strides[outer] : 1;
    out.element_strides[i] = step == 0 ? 1 : step;
  }
  const uint32_t sides = out.im2col ? 2 : out.rank;
  for (uint32_t i = 0; i < sides; ++i) out.box[i] = wanted.box[sides - 1 - i];
  if ((wanted.flags & KPK_DESC_FP4_PADDED) != 0) out.shape[0] *= 2;  // a byte holds two
  if (out.im2col) reverse_corners(tensor, &out);
  return out;
}

CUresult call_driver(const Fields &fields, void *map) {
  void *address = reinterpret_cast<void *>(fields.address);
  if (!fields.im2col) {
    return g_api.encode_tiled(map, fields.type, fields.rank, address, fields.shape, fields.strides,
                              fields.box, fields.element_strides, kInterleaveNone, fields.swizzle,
                              kPromote128Bytes, fields.fill);
  }
  return g_api.encode_im2col(map, fields.type, fields.rank, address, fields.shape, fields.strides,
                             fields.lower_corner, fields.upper_corner, fields.box[0], fields.box[1],
                             fields.element_strides, kInterleaveNone, fields.swizzle, kPromote128Bytes,
                             fields.fill);
}

template <class T>
void add_list(const char *name, const T *values, uint32_t count, Text *out) {
  out->add(", %s [", name);
  for (uint32_t i = 0; i < count; ++i) {
    out->add("%s%lld", i == 0 ? "" : ", ", static_cast<long long>(values[i]));
  }
  out->add("]");
}

// All that the driver was given: it does not say which of them it minds.
[[gnu::cold]] kpk_status refused(const char *symbol, const Fields &fields, CUresult code) {
  char call[1024];
  Text out(call, sizeof call);
  out.add("%s(innermost first: type %d, rank %u, address 0x%llx",
          fields.im2col ? "cuTensorMapEncodeIm2col" : "cuTensorMapEncodeTiled", fields.type, fields.rank,
          static_cast<unsigned long long>(fields.address));
  add_list("shape", fields.shape, fields.rank, &out);
  add_list("strides in bytes", fields.strides, fields.rank - 1, &out);
  if (fields.im2col) {
    add_list("lower corner", fields.lower_corner, fields.rank - 2, &out);
    add_list("upper corner", fields.upper_corner, fields.rank - 2, &out);
    out.add(", channels %u, pixels %u", fields.box[0], fields.box[1]);
  } else {
    add_list("box", fields.box, fields.rank, &out);
  }
  add_list("element strides", fields.element_strides, fields.rank, &out);
  out.add(", interleave %d, swizzle %d, L2 promotion %d, fill %d)", kInterleaveNone, fields.swizzle,
          kPromote128Bytes, fields.fill);
  return failed(symbol, call, code);
}

kpk_status check_fp4(const Fields &fields, const char *symbol) {
  uint64_t all = fields.address;
  for (uint32_t i = 0; i + 1 < fields.rank; ++i) all |= fields.strides[i];
  if (all % kFp4Align == 0 && fields.shape[0] % kFp4Row == 0) return KPK_OK;
  return fail(KPK_ERROR_ARGUMENT,
              "%s: fp4: expected address and strides at multiples of %u bytes and rows of a multiple of %u "
              "numbers, got address 0x%llx and rows of %llu",
              symbol, kFp4Align, kFp4Row, static_cast<unsigned long long>(fields.address),
              static_cast<unsigned long long>(fields.shape[0]));
}

// What the driver would refuse without a word of why.
kpk_status check(const Fields &fields, const kpk_abi_tensordesc &wanted, const char *symbol) {
  if (fields.fill == kFillNan && !is_floating(fields.type)) {
    return fail(
        KPK_ERROR_ARGUMENT,
        "%s: NaN padding: expected a tensor of fp16, bf16, fp32 or fp64, got %s, which is %u bytes to "
        "the device",
        symbol, type_name(wanted.type), wanted.element_bytes);
  }
  if ((wanted.flags & KPK_DESC_FP4_PADDED) != 0) {
    if (const kpk_status status = check_fp4(fields, symbol)) return status;
  }
  if (fields.im2col && fields.rank < 3) {
    return fail(KPK_ERROR_ARGUMENT, "%s: im2col: expected a tensor of rank 3 to 5, got rank %u", symbol,
                fields.rank);
  }
  return KPK_OK;
}

// A launch goes where the last one did until the driver refuses the place, which it would do after this.
kpk_status check_place(const Device &device, const char *symbol) {
  CUdevice current = 0;
  if (const CUresult code = g_api.ctx_get_device(&current)) {
    failed(symbol, "cuCtxGetDevice", code);
    return kElsewhere;
  }
  if (current == device.ordinal) return KPK_OK;
  fail(KPK_ERROR_STREAM, "%s: tensor map: expected device %d to be current, got %d", symbol, device.ordinal,
       current);
  return kElsewhere;
}

// Are all bytes of the tensor below `bound` from its first one? Sizes overflow: the product of a shape of
// 2^32 and a stride of 2^40 is no 64-bit number.
bool is_within(const kpk_tensor &tensor, uint32_t element_bytes, uint64_t bound) {
  uint64_t last = 0;
  for (uint32_t i = 0; i < tensor.rank; ++i) {
    const uint64_t stride = static_cast<uint64_t>(tensor.strides[i]) * element_bytes;
    uint64_t reach;
    if (__builtin_mul_overflow(static_cast<uint64_t>(tensor.shape[i]) - 1, stride, &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      return false;
    }
  }
  return last < bound - 1;
}

// Drivers up to CUDA 13.1 encode small tensors with a bit that makes the device read wrongly (CUTLASS clears
// it, and so does Triton from 3.7 on).
void fix_small(const kpk_tensor &tensor, uint32_t element_bytes, void *map) {
  if (g_version > kLastDriverToFix || !is_within(tensor, element_bytes, kSmallBytes)) return;
  uint64_t word;
  unsigned char *at = static_cast<unsigned char *>(map) + sizeof word;
  std::memcpy(&word, at, sizeof word);
  word &= ~kSmallBit;
  std::memcpy(at, &word, sizeof word);
}

}  // namespace

kpk_status encode(const Device &device, const kpk_tensor &tensor, const kpk_abi_tensordesc &wanted,
                  const char *symbol, void *map) {
  const Fields fields = read_fields(tensor, wanted);
  if (const kpk_status status = check(fields, wanted, symbol)) return status;
  const bool there = fields.im2col ? g_api.encode_im2col != nullptr : g_api.encode_tiled != nullptr;
  if (!there || g_version < 12000) {
    return fail(KPK_ERROR_LIMIT, "%s: takes tensor maps, for which it needs a driver of CUDA 12.0, got %d.%d",
                symbol, g_version / 1000, g_version % 1000 / 10);
  }
  if (const kpk_status status = check_place(device, symbol)) return status;
  const CUresult code = call_driver(fields, map);
  if (code != kSuccess) return refused(symbol, fields, code);
  fix_small(tensor, wanted.element_bytes, map);
  return KPK_OK;
}

}  // namespace kpk::cuda
