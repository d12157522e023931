#include "plan.h"

#include <cstdlib>
#include <cstring>

#include "expr.h"
#include "message.h"
#include "types.h"

namespace kpk {
namespace {

// Every device takes a grid of so many along every axis.
constexpr int8_t kSmall = INT8_MAX;

void read_axis(const KernelView &view, uint32_t at, uint8_t axis, Plan *plan) {
  plan->grid[axis] = 1;
  if (at == 0) return;
  const uint8_t *code = view.exprs + at;
  if (code[0] == KPK_OP_I8 && code[2] == KPK_OP_END && code[1] != 0 && code[1] <= kSmall) {
    plan->grid[axis] = code[1];
    return;
  }
  Axis &made = plan->axes[plan->axis_count++];
  made = {code, 0, axis};
  if (code[0] == KPK_OP_PARAM && code[3] == KPK_OP_END) {
    made.program = nullptr;
    std::memcpy(&made.argument, code + 1, sizeof made.argument);
  }
}

Store read_store(const kpk_abi_slot &slot) {
  const Store::Kind kind = slot.source != KPK_SLOT_ARGUMENT ? Store::kZero
                           : is_float(slot.type)            ? Store::kFloat
                                                            : Store::kBytes;
  return {kind, slot.type, slot.index, static_cast<uint16_t>(slot.offset), static_cast<uint16_t>(slot.size)};
}

// Hosts are little-endian: the low bytes come first.
void store(unsigned char *at, uint64_t bits, uint16_t size) {
  switch (size) {
    case 8: std::memcpy(at, &bits, 8); break;
    case 4: std::memcpy(at, &bits, 4); break;
    case 2: std::memcpy(at, &bits, 2); break;
    default: *at = static_cast<unsigned char>(bits); break;
  }
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

}  // namespace

kpk_status prepare(const KernelView &view, uint32_t variant, uint32_t image, Plan *out) {
  const kpk_abi_variant &v = view.variants[variant];
  const kpk_abi_image &chosen = view.images[image];
  const Table<kpk_abi_slot> layout(chosen.layout);
  if (chosen.param_bytes > UINT16_MAX || layout.size() > UINT16_MAX) {
    return fail(KPK_ERROR_UNSUPPORTED, "%s: expected a parameter block of at most %d bytes, got %u",
                text(chosen.symbol), UINT16_MAX, chosen.param_bytes);
  }
  for (uint32_t i = 0; i < layout.size(); ++i) {
    if (layout[i].source != KPK_SLOT_ARGUMENT || layout[i].type < KPK_FP8E4NV || !is_float(layout[i].type))
      continue;
    return fail(KPK_ERROR_UNSUPPORTED, "%s: takes a scalar of type %s, which this runtime does not convert",
                text(chosen.symbol), type_name(layout[i].type));
  }
  auto *stores = static_cast<Store *>(std::calloc(layout.size() + size_t{1}, sizeof(Store)));
  if (stores == nullptr) return fail(KPK_ERROR_MEMORY, "%s: out of host memory at first use", view.name());
  for (uint32_t i = 0; i < layout.size(); ++i) stores[i] = read_store(layout[i]);
  *out = {};
  out->variant = &v;
  out->image = &chosen;
  out->block = chosen.num_warps * chosen.warp_size;
  out->shared_bytes = chosen.shared_bytes;
  out->param_bytes = chosen.param_bytes;
  out->store_count = static_cast<uint16_t>(layout.size());
  out->stores = stores;
  for (uint8_t axis = 0; axis < 3; ++axis) read_axis(view, v.grid[axis], axis, out);
  return KPK_OK;
}

void discard(Plan *plan) {
  std::free(plan->stores);
  plan->stores = nullptr;
}

kpk_status fill_grid(const KernelView &view, const Plan &plan, const kpk_abi_overload &overload,
                     const Device &device, const Call &call, uint32_t *grid, bool *empty) {
  std::memcpy(grid, plan.grid, sizeof plan.grid);
  *empty = false;
  for (uint32_t i = 0; i < plan.axis_count; ++i) {
    const Axis &rule = plan.axes[i];
    int64_t value;
    if (rule.program == nullptr) {
      value = static_cast<int64_t>(call.args[rule.argument].bits);
    } else {
      ExprError error;
      value =
          evaluate(rule.program,
                   {call.args, view.types(overload), follow<kpk_value>(plan.variant->constexprs)}, &error);
      if (error != ExprError::kNone) return refuse_program(view, rule.axis, error);
    }
    const uint64_t most = device.max_grid[rule.axis];
    if (value < 0) return refuse(view, rule.axis, "expected 0 or more", value, most);
    if (static_cast<uint64_t>(value) > most)
      return refuse(view, rule.axis, "more than the device takes", value, most);
    *empty |= value == 0;
    grid[rule.axis] = static_cast<uint32_t>(value);
  }
  if (static_cast<uint64_t>(grid[0]) * plan.block > device.max_grid_threads_x) {
    return refuse(view, 0, "more threads than the device takes", grid[0],
                  device.max_grid_threads_x / plan.block);
  }
  return KPK_OK;
}

void fill_params(const Plan &plan, const kpk_arg *args, unsigned char *block) {
  for (const Store *at = plan.stores, *end = at + plan.store_count; at != end; ++at) {
    uint64_t bits = 0;
    if (at->kind != Store::kZero) bits = args[at->argument].bits;
    if (at->kind == Store::kFloat) bits = float_bits(at->type, number(args[at->argument]));
    store(block + at->offset, bits, at->size);
  }
}

}  // namespace kpk
