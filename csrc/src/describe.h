// Kernels, calls and launches in words: what errors, prototypes and the dry driver say. Never on the path
// of a launch that succeeds.
#pragma once

#include <kpack/kpack.h>

#include "device.h"
#include "expr.h"
#include "message.h"
#include "select.h"
#include "view.h"

namespace kpk {

// "const *fp16", "i32 5", "fp32 2.5", "'causal'": what was passed, as its type goes. Text is followed only
// where the parameter is a selected one: a `char *` may be a device's.
void add_arg(const kpk_arg &arg, bool selected, Text *out);
// "0x7f00", "5", "2.5", "'causal'", and of a tensor, whose descriptor is read, "0x7f00[64, 128]"
void add_arg_value(const kpk_arg &arg, bool selected, Text *out);
// "in_ptr=0x7f00 n=5"
void add_call(const KernelView &view, const kpk_arg *args, Text *out);
// "const *{fp16,bf16,fp32}": what the parameter takes over all overloads.
void add_param_type(const KernelView &view, uint32_t param, Text *out);
// "64, 128, 256": what selected parameter number `selected` may be, over all overloads.
void add_selected_values(const KernelView &view, uint32_t selected, Text *out);
// "(const *fp16 in_ptr, i32 n, CAUSAL=1)"
void add_overload(const KernelView &view, const kpk_abi_overload &overload, Text *out);
// "softmax(*{fp16,bf16} out_ptr, ..., launch n_rows)"
void add_prototype(const KernelView &view, Text *out);
// Has any variant an image for target number `target`? One that has none is there for its holes.
bool has_image(const KernelView &view, uint32_t target);
// "gfx90a, gfx942, sm_90": what there are images for, or "none"
void add_targets(const KernelView &view, Text *out);
// "guard n_cols <= BLOCK does not hold (BLOCK=256)": what judge() found.
void add_reason(const KernelView &view, const kpk_abi_variant &variant, Verdict verdict, ExprError error,
                const Call &call, Text *out);
// "  fp16.BLOCK1024.w4: not built for sm_90: out of resources", a line, if hole number `hole` is for the device; says
// whether it is.
bool add_hole(const KernelView &view, uint32_t hole, const Device &device, Text *out);
// "fp16.BLOCK1024.w4: guard n_cols <= BLOCK does not hold", a line each, then what did not compile
void add_reasons(const KernelView &view, const kpk_abi_overload &overload, const Call &call,
                 const Device &device, Text *out);
// "softmax: no image for gfx1100; this archive has gfx90a, sm_90"
void add_no_image_sentence(const KernelView &view, const Device &device, Text *out);
// The same, then what did not compile, a line each
void add_no_image(const KernelView &view, const Device &device, Text *out);
// "softmax: no variant may run this call on sm_90"
void add_no_variant(const KernelView &view, const Device &device, Text *out);

}  // namespace kpk
