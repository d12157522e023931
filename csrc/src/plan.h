// A launch, prepared: what a variant and its image say of grid and parameter block, decoded once when the
// image is loaded, so that a launch reads a few dozen bytes in order. Pure.
#pragma once

#include <kpack/kpack.h>

#include <cstddef>
#include <cstdint>

#include "call.h"
#include "device.h"
#include "expr.h"
#include "view.h"

namespace kpk {

// One axis of the grid that is not a small constant: most are one argument, or that many pieces of a size.
struct Axis {
  enum Kind : uint8_t { kArgument, kPieces, kProgram };
  uint32_t program;  // in the expression pool, of all kinds
  Kind kind;
  uint8_t axis;
  uint16_t argument;
  uint32_t piece;  // of kPieces: (argument + more) // piece
  uint32_t more;
  uint32_t most;  // that the device takes
};

// One value of the parameter block: from where, how it converts, to where.
struct Store {
  enum Kind : uint8_t { kEight, kFour, kTwo, kOne, kFloat, kZero };  // kEight to kOne: the low bytes
  Kind kind;
  uint8_t type;  // of kFloat
  uint16_t argument;
  uint16_t offset;
  uint16_t size;  // of kFloat and kZero
};

struct alignas(64) Plan {
  void *function;    // the driver's, once it is loaded
  uint64_t context;  // that it is of; 0: any context of the device
  uint32_t grid[3];  // where it is constant
  uint32_t block;    // threads
  uint32_t shared_bytes;
  uint32_t param_bytes;
  bool special;  // it takes attributes, scratch memory or tensors, or its grid counts clusters
  bool tensors;  // its layout holds host tensor descriptors, whole or in parts
  uint8_t axis_count;
  uint16_t store_count;
  const kpk_abi_image *image;
  const Store *stores;
  // A plain launch by a shortcut reads only the above.
  Axis axes[3];
  uint32_t scratch_offset;  // in the parameter block, of the pointer to scratch memory
  uint32_t profile_scratch_offset;
  const kpk_abi_variant *variant;
  const KernelView *view;
  const Device *device;
};
static_assert(offsetof(Plan, axes) == 64, "what a plain launch reads is one cache line");

// Whether its launch takes attributes. HIP has no dependent launches: there, as in Triton, that flag is a wish.
bool has_attributes(const kpk_abi_image &image, const Device &device);

// How many bytes of stores a plan for this image needs.
size_t store_bytes(const kpk_abi_image &image);
// Reads variant and image into `out`, whose stores go to `stores` (null: nowhere). KPK_ERROR_UNSUPPORTED for what
// this runtime does not launch, KPK_ERROR_LIMIT for what the device does not.
kpk_status prepare(const KernelView &view, uint32_t variant, uint32_t image, const Device &device,
                   Store *stores, Plan *out);

// Fills `grid` for a call. KPK_ERROR_GRID if an expression fails or the device does not take it; `*empty`
// if there is nothing to launch.
kpk_status fill_grid(const Plan &plan, const Call &call, uint32_t *grid, bool *empty);

// The value of one axis of it.
int64_t axis_value(const Plan &plan, const Axis &rule, const kpk_arg *args, ExprError *error);

// Fills `block` (plan.param_bytes): arguments, and zeros for hidden parameters.
void fill_params(const Plan &plan, const kpk_arg *args, unsigned char *block);

}  // namespace kpk
