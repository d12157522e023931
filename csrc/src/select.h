// Which variant runs: the first eligible one of the overload, in the order of the archive (declaration
// order of the configs, specialised before unspecialised), or the one its `prefer` values highest. Pure.
#pragma once

#include <cstdint>

#include "call.h"
#include "expr.h"
#include "view.h"

namespace kpk {

enum class Verdict : uint8_t { kEligible, kNotBuilt, kMisaligned, kNotOne, kNotNull, kRequirement, kGuard, kGuardFails };

// Whether `variant` may run this call. `image` is its image for the device, or kNoImage.
Verdict judge(const KernelView &view, const kpk_abi_overload &overload, const kpk_abi_variant &variant,
              uint32_t image, const Call &call, ExprError *error);

constexpr uint32_t kNoVariant = UINT32_MAX;
// Index of the variant to run, or kNoVariant. `images[v]` is the image of variant v for the device.
uint32_t select(const KernelView &view, const kpk_abi_overload &overload, const uint32_t *images,
                const Call &call);

// The parameter's first requirement that the call does not meet; null if it meets all.
const kpk_abi_requirement *unmet(const kpk_abi_variant &variant, const Call &call);

}  // namespace kpk
