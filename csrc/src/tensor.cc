#include "tensor.h"

#include <cstring>

#include "map_cache.h"
#include "message.h"
#include "types.h"

namespace kpk {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 32;        // along a dimension of a map
constexpr uint64_t kStrideBytesBound = uint64_t{1} << 40;  // strides are smaller
constexpr uint64_t kStep = 16;                             // of addresses and strides, bytes
constexpr uint32_t kMostStep = 8;                          // of a tensor in im2col mode, elements
constexpr uint8_t kKnownFlags = KPK_TENSOR_NAN_PADDING | KPK_TENSOR_ROUND_TF32;

// One descriptor of a call, and what the image takes of it: slots [first, end) of the parameter block.
struct Given {
  const LaunchRequest &request;
  Table<kpk_abi_slot> layout;
  uint32_t first;
  uint32_t end;
  uint32_t param;
  const kpk_tensor *tensor;
  const kpk_abi_tensordesc *wanted;  // null: its parts alone
  uint64_t element_bytes;
  uint8_t type;  // of an element
};

bool is_of_tensor(const kpk_abi_slot &slot) {
  return slot.source >= KPK_SLOT_DESC_MAP && slot.source <= KPK_SLOT_DESC_ROUND_TF32;
}

// The message, begun: "tensors: argument 1 'd': ".
[[gnu::cold]] Text about(const Given &given) {
  const KernelView &view = *given.request.plan->view;
  Text out = message();
  out.add("%s: argument %u '%s': ", view.name(), given.param + 1, text(view.params[given.param].name));
  return out;
}

// For printf, whatever an int64_t is.
template <class T>
long long number(T value) {
  return static_cast<long long>(value);
}

kpk_status check_address(const Given &given) {
  const uint64_t address = given.tensor->address;
  if (address != 0 && address % kStep == 0) return KPK_OK;
  return about(given).add("address: expected device memory at a multiple of %lld, got 0x%llx", number(kStep),
                          static_cast<unsigned long long>(address)),
         KPK_ERROR_ARGUMENT;
}

// The rank that the kernel was compiled for, and the most elements along a dimension that its slots hold.
uint32_t read_rank(const Given &given, int64_t *most) {
  uint32_t rank = 0;
  *most = kMostElements;
  for (uint32_t i = given.first; i < given.end; ++i) {
    const kpk_abi_slot &slot = given.layout[i];
    if (slot.source != KPK_SLOT_DESC_SHAPE && slot.source != KPK_SLOT_DESC_STRIDE) continue;
    if (slot.part >= rank) rank = slot.part + 1;
    if (slot.source != KPK_SLOT_DESC_SHAPE || slot.size == sizeof(int64_t)) continue;
    const int64_t held = slot.type == KPK_I32 ? INT32_MAX : integer_range(slot.type).most;
    if (held < *most) *most = held;
  }
  return rank;
}

kpk_status check_shape(const Given &given) {
  const kpk_tensor &tensor = *given.tensor;
  int64_t most = 0;
  const uint32_t rank = read_rank(given, &most);
  if (tensor.rank != rank || rank > sizeof tensor.shape / sizeof *tensor.shape) {
    return about(given).add("expected a tensor of rank %u, got rank %u", rank, tensor.rank),
           KPK_ERROR_ARGUMENT;
  }
  for (uint32_t i = 0; i < rank; ++i) {
    if (tensor.shape[i] >= 1 && tensor.shape[i] <= most) continue;
    return about(given).add("shape[%u]: expected 1 to %lld elements, got %lld", i, number(most),
                            number(tensor.shape[i])),
           KPK_ERROR_ARGUMENT;
  }
  return KPK_OK;
}

[[gnu::cold]] kpk_status refuse_stride(const Given &given, uint32_t dimension) {
  const long long most = (kStrideBytesBound - 1) / given.element_bytes;
  return about(given).add(
             "strides[%u]: expected 0 to %lld elements of %s, a multiple of %lld bytes, got %lld", dimension,
             most, type_name(given.type), number(kStep), number(given.tensor->strides[dimension])),
         KPK_ERROR_ARGUMENT;
}

kpk_status check_strides(const Given &given) {
  const kpk_tensor &tensor = *given.tensor;
  const uint32_t last = tensor.rank - 1u;
  for (uint32_t i = 0; i < last; ++i) {
    // A negative one is huge; the product of one below the bound is a 64-bit number.
    const auto stride = static_cast<uint64_t>(tensor.strides[i]), bytes = stride * given.element_bytes;
    if (stride >= kStrideBytesBound || bytes >= kStrideBytesBound || bytes % kStep != 0)
      return refuse_stride(given, i);
  }
  if (tensor.strides[last] == 1) return KPK_OK;
  return about(given).add("strides[%u]: expected 1, for the last dimension is contiguous, got %lld", last,
                          number(tensor.strides[last])),
         KPK_ERROR_ARGUMENT;
}

kpk_status check_flags(const Given &given) {
  const uint8_t flags = given.tensor->flags;
  if (flags == 0) return KPK_OK;
  if ((flags & ~kKnownFlags) != 0) {
    return about(given).add("flags: expected KPK_TENSOR_..., got %u: use a newer runtime", flags),
           KPK_ERROR_ARGUMENT;
  }
  if ((flags & KPK_TENSOR_NAN_PADDING) != 0 && !is_float(given.type)) {
    return about(given).add("NaN padding: expected a tensor of a floating type, got %s",
                            type_name(given.type)),
           KPK_ERROR_ARGUMENT;
  }
  if ((flags & KPK_TENSOR_ROUND_TF32) != 0 && given.type != KPK_FP32) {
    return about(given).add("rounding to tf32: expected a tensor of fp32, got %s", type_name(given.type)),
           KPK_ERROR_ARGUMENT;
  }
  return KPK_OK;
}

[[gnu::cold]] kpk_status refuse_corner(const Given &given, const char *corner, uint32_t dimension, int least,
                                       int most, int got) {
  return about(given).add("%s_corner[%u]: expected %d to %d, got %d", corner, dimension, least, most, got),
         KPK_ERROR_ARGUMENT;
}

// Of a box of pixels: 16, 8 or 5 bits for each of 1, 2 or 3 spatial dimensions; no bit for what is none.
kpk_status check_corners(const Given &given, bool im2col) {
  static const int kLeast[] = {0, 1 << 15, 1 << 7, 1 << 4};
  const kpk_tensor &tensor = *given.tensor;
  const uint32_t spatial = im2col && tensor.rank >= 3 ? tensor.rank - 2u : 0;
  for (uint32_t i = 0; i < 3; ++i) {
    const int bound = i < spatial ? kLeast[spatial] : 0, most = bound == 0 ? 0 : bound - 1;
    const int lower = tensor.lower_corner[i], upper = tensor.upper_corner[i];
    if (lower < -bound || lower > most) return refuse_corner(given, "lower", i, -bound, most, lower);
    if (upper < -bound || upper > most) return refuse_corner(given, "upper", i, -bound, most, upper);
  }
  return KPK_OK;
}

kpk_status check_element_strides(const Given &given, bool im2col) {
  const kpk_tensor &tensor = *given.tensor;
  const uint32_t most = im2col ? kMostStep : 1;
  for (uint32_t i = 0; i < tensor.rank; ++i) {
    if (tensor.element_strides[i] <= most) continue;
    return about(given).add("element_strides[%u]: expected at most %u%s, got %u", i, most,
                            im2col ? "" : ", for the kernel does not read in im2col mode",
                            tensor.element_strides[i]),
           KPK_ERROR_ARGUMENT;
  }
  return KPK_OK;
}

// Is there nothing of im2col mode in the tensor?
bool is_plain(const kpk_tensor &tensor) {
  uint32_t some = 0;
  for (uint32_t i = 0; i < 3; ++i)
    some |= static_cast<uint32_t>(tensor.lower_corner[i]) | static_cast<uint32_t>(tensor.upper_corner[i]);
  for (const uint32_t step : tensor.element_strides) some |= step & ~1u;
  return some == 0;
}

kpk_status check_im2col(const Given &given) {
  const bool im2col = given.wanted != nullptr && (given.wanted->flags & KPK_DESC_IM2COL) != 0;
  if (const kpk_status status = check_corners(given, im2col)) return status;
  return check_element_strides(given, im2col);
}

kpk_status check(const Given &given) {
  if (given.element_bytes == 0) {
    return about(given).add("expected a tensor of a type that this runtime knows, got type %u", given.type),
           KPK_ERROR_ARGUMENT;
  }
  if (const kpk_status status = check_shape(given)) return status;
  if (const kpk_status status = check_address(given)) return status;
  if (const kpk_status status = check_strides(given)) return status;
  if (const kpk_status status = check_flags(given)) return status;
  return is_plain(*given.tensor) ? KPK_OK : check_im2col(given);
}

[[gnu::cold]] kpk_status refuse_image(const Given &given, const char *why) {
  return fail(KPK_ERROR_FORMAT, "%s: descriptor '%s': %s", text(given.request.plan->image->symbol),
              text(given.request.plan->view->params[given.param].name), why);
}

// Apart, so that a map that is kept does not make room for another.
[[gnu::noinline]] kpk_status encode_map(const Given &given, const MapKey &key, unsigned char *at) {
  const Device &device = *given.request.plan->device;
  const char *symbol = text(given.request.plan->image->symbol);
  if (device.driver->encode == nullptr) {
    return fail(KPK_ERROR_UNSUPPORTED, "%s: takes tensor maps, which %s does not have", symbol, device.arch);
  }
  // The driver wants what it encodes aligned; an offset in the parameter block need not be.
  alignas(kMapBytes) unsigned char map[kMapBytes] = {};
  const kpk_status status = device.driver->encode(device, *given.tensor, *given.wanted, symbol, map);
  if (status != KPK_OK) return status;
  keep_map(key, map);
  std::memcpy(at, map, sizeof map);
  return KPK_OK;
}

kpk_status fill_map(const Given &given, const kpk_abi_slot &slot) {
  if (given.wanted == nullptr)
    return refuse_image(given, "expected to know how it is encoded, got no word of it");
  if (slot.size != kMapBytes) return refuse_image(given, "expected a map of 128 bytes, got another size");
  unsigned char *at = given.request.params + slot.offset;
  const MapKey key = map_key(*given.request.plan->device, *given.tensor, *given.wanted);
  return find_map(key, at) ? KPK_OK : encode_map(given, key, at);
}

uint64_t part_of(const kpk_tensor &tensor, const kpk_abi_slot &slot) {
  switch (slot.source) {
    case KPK_SLOT_DESC_BASE: return tensor.address;
    case KPK_SLOT_DESC_SHAPE: return static_cast<uint64_t>(tensor.shape[slot.part]);
    case KPK_SLOT_DESC_STRIDE: return static_cast<uint64_t>(tensor.strides[slot.part]);
    case KPK_SLOT_DESC_NAN_PADDING: return (tensor.flags & KPK_TENSOR_NAN_PADDING) != 0 ? 1 : 0;
    default: return (tensor.flags & KPK_TENSOR_ROUND_TF32) != 0 ? 1 : 0;
  }
}

kpk_status fill(const Given &given) {
  for (uint32_t i = given.first; i < given.end; ++i) {
    const kpk_abi_slot &slot = given.layout[i];
    if (slot.source == KPK_SLOT_DESC_MAP) {
      if (const kpk_status status = fill_map(given, slot)) return status;
      continue;
    }
    const uint64_t part = part_of(*given.tensor, slot);  // hosts are little-endian: its low bytes
    unsigned char *at = given.request.params + slot.offset;
    switch (slot.size) {
      case 8: std::memcpy(at, &part, 8); break;
      case 4: std::memcpy(at, &part, 4); break;
      case 1: std::memcpy(at, &part, 1); break;
      default: return refuse_image(given, "expected slots of 1, 4 or 8 bytes, got another size");
    }
  }
  return KPK_OK;
}

const kpk_abi_tensordesc *find_wanted(const kpk_abi_image &image, uint32_t param) {
  const Table<kpk_abi_tensordesc> all(image.tensordescs);
  for (uint32_t i = 0; i < all.size(); ++i) {
    if (all[i].param == param) return &all[i];
  }
  return nullptr;
}

// Fills the slots from `first` on that are of the same descriptor: they lie together. `*end`: behind them.
kpk_status fill_tensor(const LaunchRequest &request, const Table<kpk_abi_slot> &layout, uint32_t first,
                       uint32_t *end) {
  const uint32_t param = layout[first].index;
  *end = first + 1;
  while (*end < layout.size() && is_of_tensor(layout[*end]) && layout[*end].index == param) ++*end;
  const kpk_arg &arg = request.args[param];
  const auto type = static_cast<uint8_t>(arg.type & ~KPK_TENSORDESC);
  const Given given = {request,
                       layout,
                       first,
                       *end,
                       param,
                       reinterpret_cast<const kpk_tensor *>(arg.bits),
                       find_wanted(*request.plan->image, param),
                       static_cast<uint64_t>(element_bytes(type)),
                       type};
  if (given.tensor == nullptr) return about(given).add("expected a tensor, got null"), KPK_ERROR_ARGUMENT;
  const kpk_status status = check(given);
  return status != KPK_OK || request.params == nullptr ? status : fill(given);
}

}  // namespace

kpk_status fill_tensors(const LaunchRequest &request) {
  const Table<kpk_abi_slot> layout(request.plan->image->layout);
  for (uint32_t i = 0, end; i < layout.size(); i = end) {
    end = i + 1;
    if (!is_of_tensor(layout[i])) continue;
    if (const kpk_status status = fill_tensor(request, layout, i, &end)) return status;
  }
  return KPK_OK;
}

}  // namespace kpk
