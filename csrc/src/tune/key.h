// The key of a call: what an entry of a tuning table is of. One number from device, overload, what is divisible by 16,
// 1 or null, and the integers that are part of it, as themselves or by their bucket. docs/tuning.md has the rules and
// kpack/tuning/key.py computes the same. Pure.
#pragma once

#include <kpack/kpack.h>

#include <cstdint>

#include "call.h"
#include "device.h"
#include "host_array.h"
#include "message.h"
#include "types.h"
#include "view.h"

namespace kpk {

constexpr uint64_t kWordSeed = UINT64_C(0xcbf29ce484222325);
inline uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
  return hash ^ hash >> 32;
}
// A key is never 0.
inline uint64_t finish(uint64_t hash) { return hash == 0 ? 1 : hash; }
// FNV-1a, 64 bits.
uint64_t hash_text(const char *text);

// Quarters of an octave: up to 16 each integer is its own bucket, above it is the smallest m * 2^k with m from 4 to 8
// that is not below it.
inline int64_t bucket_of(int64_t value) {
  if (value <= 16) return value;
  const auto below = static_cast<uint64_t>(value) - 1;
  const int shift = 61 - __builtin_clzll(below);
  const uint64_t bucket = ((below >> shift) + 1) << shift;
  return bucket > INT64_MAX ? INT64_MAX : static_cast<int64_t>(bucket);
}
// All values of the bucket that `value` is in.
inline Range bucket_range(int64_t value) {
  if (value <= 16) return {value, value};
  const auto below = static_cast<uint64_t>(value) - 1;
  const int shift = 61 - __builtin_clzll(below);
  return {static_cast<int64_t>(below >> shift << shift) + 1, bucket_of(value)};
}

// An integer of the call that is part of its key.
struct KeyParam {
  uint16_t index;
  bool exact;  // by value
};
inline int64_t key_value(const KeyParam &param, int64_t value) {
  return param.exact ? value : bucket_of(value);
}
inline Range key_range(const KeyParam &param, int64_t value) {
  return param.exact ? Range{value, value} : bucket_range(value);
}

// How the key of a call of one overload on one device is made.
struct KeyRule {
  uint64_t seed;          // the hash over device and overload
  uint64_t divisible_16;  // what some variant asks for, of whatever target
  uint64_t equal_1;
  uint64_t null;
  uint32_t count;
  KeyParam params[1];  // in truth `count`
};
inline uint64_t hash_class(const KeyRule &rule, uint64_t divisible_16, uint64_t equal_1, uint64_t null) {
  const uint64_t hash = mix(rule.seed, divisible_16 & rule.divisible_16);
  return mix(mix(hash, equal_1 & rule.equal_1), null & rule.null);
}
inline uint64_t key_of(const KeyRule &rule, const Call &call) {
  uint64_t hash = hash_class(rule, call.divisible_16, call.equal_1, call.null);
  for (uint32_t i = 0; i < rule.count; ++i) {
    const KeyParam &param = rule.params[i];
    const auto value = static_cast<int64_t>(call.args[param.index].bits);
    hash = mix(hash, static_cast<uint64_t>(key_value(param, value)));
  }
  return finish(hash);
}

// `op`: of an op "op:<name>", else null. Null if there is no memory; to be freed.
KeyRule *make_rule(const KernelView &view, const kpk_abi_overload &overload, const Device &device,
                   const char *op);

// Of the variants' own hashes, so that it is the same whatever the archive was built for.
uint64_t tuning_hash(const KernelView &view);

// "sm_90/132"
void add_device_text(const Device &device, Text *out);
// "*fp16,*fp16,i64;CAUSAL=True"
void add_overload_text(const KernelView &view, const kpk_abi_overload &overload, Text *out);
// "n_cols=1024 16=out_ptr,in_ptr", or "-"
void add_call_text(const KernelView &view, const KeyRule &rule, const Call &call, Text *out);
// The key that add_call_text() wrote, in any order; false if this is none of the rule's.
bool parse_call_text(const KernelView &view, const KeyRule &rule, const char *text, uint64_t *key);
// 'text', with what is no letter for a line of text as \xNN
void add_quoted(const char *text, Text *out);
// "fp16", "*fp16", "tensordesc<fp16>"
void add_type_text(uint8_t type, Text *out);

// All of what `add` adds, however long; false if there is no memory.
template <class Add>
bool write_text(HostArray<char> *out, Add add) {
  Text measured(nullptr, 0);
  add(&measured);
  if (!out->allocate(measured.length() + 1)) return false;
  Text written(out->data(), measured.length() + 1);
  add(&written);
  return true;
}

}  // namespace kpk
