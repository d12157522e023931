// The shortcut of a launch that is like an earlier one: under which conditions choosing would come to the same
// function, and where in a block of arguments lies what guards and grid ask for. There are two ways in. A program
// that knows its types at compile time brings the block (kpk_packed: C++, and kpk_call in C); an array of arguments is
// checked and put into a block first. What is not certain is left to choosing. Of a kernel that is tuned a shortcut is
// for calls of one key, and knows where others' keys are looked up.
//
// Where guards are more than bounds it is for calls of certain values.
//
// Made when such a call is chosen again, never changed, and laid out in the order of reading, by cache lines: between
// two launches the driver has had the caches. Pure.
#pragma once

#include <kpack/kpack.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "driver.h"
#include "plan.h"
#include "tune/tuned.h"

namespace kpk {

struct Function;  // module.h

// A value in a block, as 64 bits: eight bytes at the offset, of which those of the next value are shifted out.
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

// Bounds of a field. A selected value is one whose bounds are equal.
struct Limit {
  int64_t least;
  int64_t most;
  Field field;
};

// An axis of the grid that a field says.
struct ShortAxis {
  uint32_t piece;  // 0: the argument itself; otherwise (argument + more) // piece
  uint32_t more;
  uint32_t most;
  Field field;
};

// How one argument is checked, and where its eight bytes go: over what comes next, which is filled later.
struct Step {
  static constexpr uint8_t kFolded = 0x80;  // of `width`: of a negative number, its complement is looked at
  uint16_t given;                           // type and flags of the kpk_arg
  uint16_t offset;
  uint8_t low_bits;     // 0 where the address, or the integer, is as divisible as it has to be
  uint8_t width;        // bits that an integer may take; kFolded | 63: any value
  uint8_t next_narrow;  // as Shortcut::narrow, of the next one
  uint8_t reserved;
};

// A variant that goes first where its masks hold.
struct Rival {
  uint64_t divisible_16;
  uint64_t special;
};

constexpr uint32_t kMostShortParams = 63;   // as many bits has a mask, and callers pack no more
constexpr uint32_t kRivals = 2;             // of a shortcut for calls of any key
constexpr uint32_t kPackedSlackBytes = 24;  // that a packed block has behind its last argument, and 16 more
constexpr uint32_t kBlockBytes = 1024;      // of a block that arguments are put into

// How the key of a packed call is computed, where a shortcut is for those of one key. Behind it lies where each of the
// rule's parameters is in a block.
struct Keyed {
  const Tuning *tuning;
  const KeyRule *rule;
  const Tuned *tuned;  // the key
  uint64_t hash;       // the hash of its class, from which that of its values goes on
  uint64_t odd_16;     // the class: bits of the rule's, as in kpk_packed
  uint64_t special;
  const Field *fields() const { return reinterpret_cast<const Field *>(this + 1); }
};

struct alignas(64) Shortcut {
  const Plan *plan;  // null: such calls have no shortcut
  kpk_status (*launch)(const LaunchRequest &);
  const Driver *driver;
  int64_t least;  // of the field that guards are about: no variant in front of this one has its guard hold
  int64_t most;
  // Of a packed block. Bit i is of argument i.
  uint64_t types;         // kpk_packed::types; 0: this function's arguments do not lie as in one
  uint64_t written;       // through this pointer the kernel writes
  uint64_t divisible_16;  // it has to be
  // The second line.
  ShortAxis axes[3];
  uint8_t axis[3];  // of the grid, of each of them
  uint8_t axis_count;
  Field bounded;
  uint16_t hidden;  // offset of two null pointers, or of slack
  uint8_t count;    // of arguments, each of which has a step
  uint8_t narrow;   // 1 + the number of the first argument that is a double and stored as a float; 0: none is
  uint8_t limit_count;
  uint8_t rival_count;
  bool rare;  // there are rivals, arguments that have to be 1 or null, or axes that are expressions
  // The third is read in special cases. The steps are behind it, then the limits.
  const Limit *limits;
  uint64_t special;  // arguments that have to be 1 or null
  const Rival *rivals;
  const Function *function;
  const Shortcut *next;  // of the same function, for other calls
  const Keyed *keyed;    // null: for calls of any key
  uint64_t values;       // hash_values() of the calls that it is for; 0: of any
};
static_assert(offsetof(Shortcut, axes) == 64 && offsetof(Shortcut, limits) == 128 && sizeof(Shortcut) == 192,
              "lines of the cache");

inline const Step *steps_of(const Shortcut &shortcut) {
  return reinterpret_cast<const Step *>(&shortcut + 1);
}

// What makes calls alike, besides their types: why they came to the function.
struct Terms {
  enum Why : uint8_t { kFirst, kPinned, kTuned };
  Why why;
  // Of a tuned kernel: such calls have the key of this one; otherwise null.
  const Tuning *tuning;
  const KeyRule *rule;
  Tuned *tuned;
};
size_t shortcut_bytes(const Function &function, uint32_t count, const Terms &terms);

// Is the shortcut for calls of these types and flags?
bool is_for(const Shortcut &shortcut, const kpk_arg *args, uint32_t count);

// Fills `out` (shortcut_bytes(), zeroed) for calls like this one, which came to `function`; without a plan where they
// have no shortcut.
void make_shortcut(const Function &function, const Call &call, const Terms &terms, Shortcut *out);

// The way of another key's calls, for a call of the types of `tried`, which is keyed; null if there is none yet.
const Shortcut *other_way(const Shortcut &tried, const kpk_packed &call);
const Shortcut *other_way(const Shortcut &tried, const kpk_arg *args);

inline bool has_rival(const Shortcut &shortcut, uint64_t odd_16, uint64_t special) {
  for (uint32_t i = 0; i < shortcut.rival_count; ++i) {
    const Rival &rival = shortcut.rivals[i];
    if (((rival.divisible_16 & odd_16) | (rival.special & ~special)) == 0) return true;
  }
  return false;
}

// The rare part of launch_args(): does choosing come to this function as far as masks go? Then the axes that are
// expressions are filled; false also where one fails, or says no grid.
bool fill_rarely(const Shortcut &shortcut, const kpk_arg *args, uint32_t *grid);

// The value if it is one of a grid; 0 where there is nothing to launch, or a word to say about it.
inline uint32_t grid_value(const ShortAxis &axis, const unsigned char *block) {
  auto value = static_cast<uint64_t>(read(axis.field, block));
  if (axis.piece != 0) {
    if (value > INT64_MAX - uint64_t{axis.more}) return 0;
    value = (value + axis.more) / axis.piece;
  }
  return value <= axis.most ? static_cast<uint32_t>(value) : 0;
}

// Launches a block that is checked but for its values. The grid is filled but for what they say.
[[gnu::always_inline]] inline bool launch_block(const Shortcut &shortcut, unsigned char *block,
                                                LaunchRequest *request, kpk_status *status) {
  const int64_t bounded = read(shortcut.bounded, block);
  if (bounded < shortcut.least || bounded > shortcut.most) return false;
  for (uint32_t i = 0; i < shortcut.limit_count; ++i) {
    const Limit &limit = shortcut.limits[i];
    const int64_t value = read(limit.field, block);
    if (value < limit.least || value > limit.most) return false;
  }
  for (uint32_t i = 0; i < shortcut.axis_count; ++i) {
    const uint32_t value = grid_value(shortcut.axes[i], block);
    if (value == 0) return false;
    request->grid[shortcut.axis[i]] = value;
  }
  std::memset(block + shortcut.hidden, 0, 16);
  request->params = block;
  *status = shortcut.launch(*request);
  return true;
}

inline LaunchRequest plain_request(const Shortcut &shortcut, void *stream) {
  const Plan &plan = *shortcut.plan;
  return {&plan, nullptr, {plan.grid[0], plan.grid[1], plan.grid[2]}, stream, nullptr};
}

// Launches a packed call of the shortcut's types, if choosing would come to this function for it; false
// if that is not certain.
inline bool launch_packed(const Shortcut &shortcut, void *stream, const kpk_packed &call,
                          kpk_status *status) {
  const uint64_t unsure = kChecked ? (shortcut.written & call.consts) | call.misaligned : 0;
  if ((unsure | (shortcut.divisible_16 & call.odd_16)) != 0) return false;
  if (has_rival(shortcut, call.odd_16, call.special)) return false;
  LaunchRequest request = plain_request(shortcut, stream);
  return launch_block(shortcut, call.block, &request, status);
}

// Puts an argument where it goes; not 0 if it is none of this step, or that is not certain.
inline uint64_t put(const Step &step, const kpk_arg &arg, unsigned char *block) {
  uint16_t given;
  std::memcpy(&given, reinterpret_cast<const char *>(&arg) + offsetof(kpk_arg, type), sizeof given);
  // Of an integer that fits, nothing is left above its width.
  const auto width = static_cast<uint64_t>(static_cast<int8_t>(step.width));
  const auto fold = static_cast<uint64_t>(static_cast<int64_t>(arg.bits & width) >> 63);
  const uint64_t above = (arg.bits ^ fold) >> (width & 63);
  std::memcpy(block + step.offset, &arg.bits, sizeof arg.bits);
  return above | (arg.bits & step.low_bits) | uint64_t{static_cast<uint16_t>(given ^ step.given)};
}

// The same for a call of any types, by its arguments.
[[gnu::always_inline]] inline bool launch_args(const Shortcut &shortcut, void *stream, const kpk_arg *args,
                                               uint32_t count, kpk_status *status) {
  if (shortcut.count != count) return false;
  alignas(16) unsigned char block[kBlockBytes];
  const Step *steps = steps_of(shortcut);
  uint64_t unsure = 0;
  for (uint32_t i = 0; i < count; ++i) unsure |= put(steps[i], args[i], block);
  if (unsure != 0) return false;
  for (uint32_t i = shortcut.narrow; i != 0; i = steps[i - 1].next_narrow) {
    double wide;
    std::memcpy(&wide, &args[i - 1].bits, sizeof wide);
    const auto narrow = static_cast<float>(wide);
    std::memcpy(block + steps[i - 1].offset, &narrow, sizeof narrow);
  }
  LaunchRequest request = plain_request(shortcut, stream);
  if (shortcut.rare && !fill_rarely(shortcut, args, request.grid)) return false;
  return launch_block(shortcut, block, &request, status);
}

}  // namespace kpk
