// A launch, prepared: what a variant and its image say of grid and parameter block, decoded once when the
// image is loaded, so that a launch reads a few dozen bytes in order. Pure.
#pragma once

#include <kpack/kpack.h>

#include <cstddef>
#include <cstdint>

#include "call.h"
#include "device.h"
#include "view.h"

namespace kpk {

// One axis of the grid that is not a small constant: most are one argument, the rest are programs.
struct Axis {
  uint32_t program;  // in the expression pool; 0: the argument itself
  uint16_t argument;
  uint16_t axis;
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

struct Plan {
  void *function;    // the driver's, once it is loaded
  uint32_t grid[3];  // where it is constant
  uint32_t block;    // threads
  uint32_t shared_bytes;
  uint32_t param_bytes;
  uint16_t store_count;
  uint8_t axis_count;
  bool special;  // the launch takes attributes or scratch memory, or its grid counts clusters
  const Store *stores;
  Axis axes[3];
  const kpk_abi_variant *variant;
  const kpk_abi_image *image;
  uint32_t scratch_offset;  // in the parameter block, of the pointer to scratch memory
};

// How many bytes of stores a plan for this image needs.
size_t store_bytes(const kpk_abi_image &image);
// Reads variant and image into `out`, whose stores go to `stores`. KPK_ERROR_UNSUPPORTED for what this runtime
// does not launch, KPK_ERROR_LIMIT for what the device does not.
kpk_status prepare(const KernelView &view, uint32_t variant, uint32_t image, const Device &device,
                   Store *stores, Plan *out);

// Fills `grid` for a call. KPK_ERROR_GRID if an expression fails or the device does not take it; `*empty`
// if there is nothing to launch.
kpk_status fill_grid(const KernelView &view, const Plan &plan, const kpk_abi_overload &overload,
                     const Device &device, const Call &call, uint32_t *grid, bool *empty);

// Fills `block` (plan.param_bytes): arguments, and zeros for hidden parameters.
void fill_params(const Plan &plan, const kpk_arg *args, unsigned char *block);

}  // namespace kpk
