#include "plan.h"

#include <cstring>

#include "expr.h"
#include "message.h"
#include "types.h"

namespace kpk {
namespace {

// Every device takes a grid of so many along every axis.
constexpr int8_t kSmall = INT8_MAX;

// Reads a constant of the program, or nothing.
bool read_constant(const uint8_t **code, int64_t *out) {
  if (**code == KPK_OP_I8) {
    *out = static_cast<int8_t>((*code)[1]);
    *code += 2;
    return true;
  }
  if (**code != KPK_OP_I64) return false;
  std::memcpy(out, *code + 1, sizeof *out);
  *code += 9;
  return true;
}

// Reads `cdiv(argument, piece)` and `(argument + more) // piece`, which is how people write it, with any number of
// additions; false for any other program.
bool is_pieces(const uint8_t *code, Axis *out) {
  int64_t more = 0, number = 0;
  for (code += 3; read_constant(&code, &number); ++code) {
    const uint8_t op = *code;
    if (op == KPK_OP_ADD || op == KPK_OP_SUB) {
      if (op == KPK_OP_SUB ? __builtin_sub_overflow(more, number, &more)
                           : __builtin_add_overflow(more, number, &more)) {
        return false;
      }
      // What choosing adds must not overflow either, for any argument that the grid can be of.
      if (more > UINT32_MAX || more < -int64_t{UINT32_MAX}) return false;
      continue;
    }
    if (number < 1 || (op != KPK_OP_CDIV && op != KPK_OP_FLOORDIV) || code[1] != KPK_OP_END) return false;
    if (number > UINT32_MAX) return false;
    if (op == KPK_OP_CDIV) more += number - 1;
    if (more < 0 || more > UINT32_MAX) return false;
    out->piece = static_cast<uint32_t>(number);
    out->more = static_cast<uint32_t>(more);
    return true;
  }
  return false;
}

uint32_t most_of(const Device &device, const Plan &plan, uint8_t axis) {
  uint64_t most = device.max_grid[axis];
  if (axis == 0 && device.max_grid_threads_x / plan.block < most)
    most = device.max_grid_threads_x / plan.block;
  return static_cast<uint32_t>(most < UINT32_MAX ? most : UINT32_MAX);
}

void read_axis(const KernelView &view, uint32_t at, uint8_t axis, const Device &device, Plan *plan) {
  plan->grid[axis] = 1;
  if (at == 0) return;
  const uint8_t *code = view.exprs + at;
  if (code[0] == KPK_OP_I8 && code[2] == KPK_OP_END && code[1] != 0 && code[1] <= kSmall) {
    plan->grid[axis] = code[1];
    return;
  }
  Axis &made = plan->axes[plan->axis_count++];
  made = {at, Axis::kProgram, axis, 0, 1, 0, most_of(device, *plan, axis)};
  if (code[0] != KPK_OP_PARAM) return;
  std::memcpy(&made.argument, code + 1, sizeof made.argument);
  made.kind = code[3] == KPK_OP_END    ? Axis::kArgument
              : is_pieces(code, &made) ? Axis::kPieces
                                       : Axis::kProgram;
}

Store read_store(const kpk_abi_slot &slot) {
  const auto offset = static_cast<uint16_t>(slot.offset), size = static_cast<uint16_t>(slot.size);
  Store::Kind kind = slot.size == 8   ? Store::kEight
                     : slot.size == 4 ? Store::kFour
                     : slot.size == 2 ? Store::kTwo
                                      : Store::kOne;
  if (slot.source != KPK_SLOT_ARGUMENT) {
    kind = Store::kZero;
  } else if (is_float(slot.type)) {
    kind = Store::kFloat;
  }
  return {kind, slot.type, slot.index, offset, size};
}

[[gnu::cold]] kpk_status refuse(const KernelView &view, int axis, const char *why, int64_t value,
                                uint64_t most) {
  return fail(KPK_ERROR_GRID, "%s: grid %s: axis %c is %lld, %s (at most %llu)", view.name(),
              text(view.kernel->grid_text), "xyz"[axis], static_cast<long long>(value), why,
              static_cast<unsigned long long>(most));
}

[[gnu::cold]] kpk_status refuse_program(const KernelView &view, int axis, ExprError error) {
  return fail(KPK_ERROR_GRID, "%s: grid %s: axis %c fails: %s", view.name(), text(view.kernel->grid_text),
              "xyz"[axis], expr_error_text(error));
}

uint32_t cluster_size(const kpk_abi_image &image) {
  return image.cluster[0] * image.cluster[1] * image.cluster[2];
}

bool has_scratch(const kpk_abi_image &image) {
  return image.global_scratch_bytes != 0 || image.profile_scratch_bytes != 0;
}

// Where the pointer to scratch memory goes; an image that needs the memory takes the pointer.
kpk_status find_scratch(const kpk_abi_image &image, uint8_t source, uint32_t bytes, uint32_t *offset) {
  const Table<kpk_abi_slot> layout(image.layout);
  for (uint32_t i = 0; i < layout.size(); ++i) {
    if (layout[i].source != source) continue;
    *offset = layout[i].offset;
    return KPK_OK;
  }
  if (bytes == 0) return KPK_OK;
  return fail(KPK_ERROR_FORMAT, "%s: needs %u bytes of scratch memory, but has no parameter for its address",
              text(image.symbol), bytes);
}

// What an image asks for and this runtime, or the device, does not have.
kpk_status check_needs(const kpk_abi_image &image, const Device &device) {
  const char *symbol = text(image.symbol);
  const char *missing = image.codec != KPK_CODEC_RAW ? "compressed images" : nullptr;
  if (missing != nullptr) {
    return fail(KPK_ERROR_UNSUPPORTED, "%s: the image needs %s, which this runtime does not launch yet",
                symbol, missing);
  }
  const uint32_t threads = image.num_warps * image.warp_size;
  const uint32_t shared = image.shared_bytes + image.static_shared_bytes;
  if (threads > device.max_threads) {
    return fail(KPK_ERROR_LIMIT, "%s: needs blocks of %u threads, %s takes %u", symbol, threads, device.arch,
                device.max_threads);
  }
  if (shared > device.max_shared_bytes) {
    return fail(KPK_ERROR_LIMIT, "%s: needs %u bytes of shared memory a block, %s has %u", symbol, shared,
                device.arch, device.max_shared_bytes);
  }
  if (image.param_bytes > UINT16_MAX || image.layout.count > UINT16_MAX) {
    return fail(KPK_ERROR_UNSUPPORTED, "%s: expected a parameter block of at most %d bytes, got %u", symbol,
                UINT16_MAX, image.param_bytes);
  }
  const Table<kpk_abi_slot> layout(image.layout);
  for (uint32_t i = 0; i < layout.size(); ++i) {
    const kpk_abi_slot &slot = layout[i];
    if (slot.source != KPK_SLOT_ARGUMENT || slot.type < KPK_FP8E4NV || !is_float(slot.type)) continue;
    return fail(KPK_ERROR_UNSUPPORTED, "%s: takes a scalar of type %s, which this runtime does not convert",
                symbol, type_name(slot.type));
  }
  return KPK_OK;
}

}  // namespace

bool has_attributes(const kpk_abi_image &image, const Device &device) {
  const uint32_t flags = KPK_IMAGE_COOPERATIVE | (device.vendor == KPK_VENDOR_CUDA ? KPK_IMAGE_PDL : 0);
  return cluster_size(image) > 1 || (image.flags & flags) != 0;
}

size_t store_bytes(const kpk_abi_image &image) { return (image.layout.count + size_t{1}) * sizeof(Store); }

kpk_status prepare(const KernelView &view, uint32_t variant, uint32_t image, const Device &device,
                   Store *stores, Plan *out) {
  const kpk_abi_variant &v = view.variants[variant];
  const kpk_abi_image &chosen = view.images[image];
  if (const kpk_status status = check_needs(chosen, device)) return status;
  const Table<kpk_abi_slot> layout(chosen.layout);
  for (uint32_t i = 0; i < layout.size(); ++i) {
    if (stores != nullptr) stores[i] = read_store(layout[i]);
    out->tensors = out->tensors || layout[i].source >= KPK_SLOT_DESC_MAP;
  }
  if (const kpk_status status =
          find_scratch(chosen, KPK_SLOT_GLOBAL_SCRATCH, chosen.global_scratch_bytes, &out->scratch_offset)) {
    return status;
  }
  if (const kpk_status status = find_scratch(chosen, KPK_SLOT_PROFILE_SCRATCH, chosen.profile_scratch_bytes,
                                             &out->profile_scratch_offset)) {
    return status;
  }
  out->view = &view;
  out->device = &device;
  out->variant = &v;
  out->image = &chosen;
  out->block = chosen.num_warps * chosen.warp_size;
  out->shared_bytes = chosen.shared_bytes;
  out->param_bytes = chosen.param_bytes;
  out->store_count = static_cast<uint16_t>(layout.size());
  out->stores = stores;
  out->special = has_attributes(chosen, device) || has_scratch(chosen) || out->tensors;
  for (uint8_t axis = 0; axis < 3; ++axis) read_axis(view, v.grid[axis], axis, device, out);
  return KPK_OK;
}

int64_t axis_value(const Plan &plan, const Axis &rule, const kpk_arg *args, ExprError *error) {
  *error = ExprError::kNone;
  if (rule.kind == Axis::kArgument) return static_cast<int64_t>(args[rule.argument].bits);
  const kpk_abi_overload &overload = plan.view->overloads[plan.variant->overload];
  return evaluate(plan.view->exprs + rule.program, {args, &overload, plan.variant}, error);
}

kpk_status fill_grid(const Plan &plan, const Call &call, uint32_t *grid, bool *empty) {
  const KernelView &view = *plan.view;
  const Device &device = *plan.device;
  std::memcpy(grid, plan.grid, sizeof plan.grid);
  *empty = false;
  for (uint32_t i = 0; i < plan.axis_count; ++i) {
    const Axis &rule = plan.axes[i];
    ExprError error;
    const int64_t value = axis_value(plan, rule, call.args, &error);
    if (error != ExprError::kNone) return refuse_program(view, rule.axis, error);
    const uint64_t most = device.max_grid[rule.axis];
    if (value < 0) return refuse(view, rule.axis, "expected 0 or more", value, most);
    if (static_cast<uint64_t>(value) > most)
      return refuse(view, rule.axis, "more than the device takes", value, most);
    *empty |= value == 0;
    grid[rule.axis] = static_cast<uint32_t>(value);
  }
  if (plan.special && (plan.image->flags & KPK_IMAGE_GRID_TIMES_CLUSTER) != 0) {
    const uint64_t blocks = uint64_t{grid[0]} * cluster_size(*plan.image);
    if (blocks > device.max_grid[0]) {
      return refuse(view, 0, "more clusters than the device takes", grid[0],
                    device.max_grid[0] / cluster_size(*plan.image));
    }
    grid[0] = static_cast<uint32_t>(blocks);
  }
  if (static_cast<uint64_t>(grid[0]) * plan.block > device.max_grid_threads_x) {
    return refuse(view, 0, "more threads than the device takes", grid[0],
                  device.max_grid_threads_x / plan.block);
  }
  return KPK_OK;
}

void fill_params(const Plan &plan, const kpk_arg *args, unsigned char *block) {
  // Hosts are little-endian: the low bytes come first.
  for (const Store *store = plan.stores, *end = store + plan.store_count; store != end; ++store) {
    unsigned char *at = block + store->offset;
    if (store->kind == Store::kZero) {
      std::memset(at, 0, store->size);
      continue;
    }
    const kpk_arg &arg = args[store->argument];
    switch (store->kind) {
      case Store::kEight: std::memcpy(at, &arg.bits, 8); break;
      case Store::kFour: std::memcpy(at, &arg.bits, 4); break;
      case Store::kTwo: std::memcpy(at, &arg.bits, 2); break;
      case Store::kFloat: {
        const uint64_t bits = float_bits(store->type, number(arg));
        std::memcpy(at, &bits, store->size);
        break;
      }
      default: std::memcpy(at, &arg.bits, 1); break;
    }
  }
}

}  // namespace kpk
