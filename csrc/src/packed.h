// The shortest way: a call whose arguments come as one block, as a C compiler lays them out in a struct, which is
// how most images take them. What kpack.hpp knows at compile time (types, constness) comes as one number each; what
// is left to look at is alignment, guard and grid. Made of a function and the types of a call that was launched by
// its arguments; never changed. Pure.
#pragma once

#include <kpack/kpack.h>

#include <cstdint>
#include <cstring>

#include "driver.h"
#include "memo.h"
#include "plan.h"

namespace kpk {

struct Function;  // module.h

// An integer of the block, as 64 bits: eight bytes at the offset, of which those of the next value are shifted out.
struct Field {
  uint16_t offset;
  uint8_t shift;
  bool is_signed;
};
inline int64_t read(const Field &field, const unsigned char *block) {
  uint64_t bits;
  std::memcpy(&bits, block + field.offset, sizeof bits);
  bits <<= field.shift;
  return field.is_signed ? static_cast<int64_t>(bits) >> field.shift
                         : static_cast<int64_t>(bits >> field.shift);
}

struct PackedSelected {
  int64_t value;
  Field field;
};

struct PackedAxis {
  uint32_t piece;  // 0: the argument itself; otherwise (argument + more) // piece
  uint32_t more;
  uint32_t most;
  Field field;
  uint8_t axis;
};

constexpr uint32_t kPackedSlackBytes = 24;  // that a block has behind its last argument
constexpr uint32_t kPackedSelected = 4;

struct alignas(64) Packed {
  uint64_t types;    // kpk_packed::types of such a call
  uint64_t written;  // bit i: through this pointer the kernel writes
  uint64_t divisible_16;
  int64_t least;  // of the field that guards are about
  int64_t most;
  const Plan *plan;
  const Driver *driver;
  Field bounded;
  uint16_t hidden;  // offset of two null pointers, or of slack
  uint8_t axes;
  uint8_t selected;
  // The second line.
  PackedAxis axis[3];
  uint32_t rivals;  // variants that go first where their masks hold
  bool asks;        // as of Memo
  // And where it is asked for.
  uint64_t place;
  struct {
    uint64_t divisible_16;
    uint64_t special;
  } rival[kMemoRivals];
  PackedSelected select[kPackedSelected];
  const Function *function;
  const Device *device;
  const Packed *next;  // of the same function, for calls of other types
};

// Whether calls like this one can be launched so, and how. `args` was launched by this function.
bool make_packed(const Function &function, const kpk_arg *args, uint32_t count, uint64_t types, Packed *out);

// Launches if choosing would come to this function for the call; false if that is not certain.
inline bool launch_packed(const Packed &packed, void *stream, const kpk_packed &call, kpk_status *status) {
  unsigned char *block = call.block;
  const int64_t bounded = read(packed.bounded, block);
  const uint64_t unsure = kChecked ? (packed.written & call.consts) | call.misaligned : 0;
  if (packed.types != call.types || (unsure | (packed.divisible_16 & call.odd_16)) != 0 ||
      bounded < packed.least || bounded > packed.most) {
    return false;
  }
  for (uint32_t i = 0; i < packed.rivals; ++i) {
    const auto &rival = packed.rival[i];
    if (((rival.divisible_16 & call.odd_16) | (rival.special & ~call.special)) == 0) return false;
  }
  for (uint32_t i = 0; i < packed.selected; ++i) {
    if (read(packed.select[i].field, block) != packed.select[i].value) return false;
  }
  LaunchRequest request;
  for (int axis = 0; axis < 3; ++axis) request.grid[axis] = packed.plan->grid[axis];
  for (uint32_t i = 0; i < packed.axes; ++i) {
    const PackedAxis &rule = packed.axis[i];
    auto value = static_cast<uint64_t>(read(rule.field, block));
    if (rule.piece != 0) {
      if (value > INT64_MAX - uint64_t{rule.more}) return false;
      value = (value + rule.more) / rule.piece;
    }
    if (value - 1 >= rule.most) return false;  // nothing to launch, or a word to say about it
    request.grid[rule.axis] = static_cast<uint32_t>(value);
  }
  std::memset(block + packed.hidden, 0, 16);
  request.plan = packed.plan;
  request.stream = stream;
  request.params = block;
  request.device = packed.device;
  request.view = nullptr;  // for messages of what is not plain
  request.args = nullptr;
  *status = packed.driver->launch(request);
  return true;
}

}  // namespace kpk
