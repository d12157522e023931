#include "tune/arena.h"

#include <cstring>
#include <initializer_list>

#include "message.h"
#include "tune/numbers.h"
#include "types.h"

namespace kpk {
namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kTile = uint64_t{4} << 20;  // bytes of made-up data; what is larger has it several times
constexpr uint8_t kGarbage = 0xff;
constexpr uint64_t kMostBytes = uint64_t{2} << 30;  // of sets: where one is large, it lies everywhere itself

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
unsigned long long number(uint64_t value) { return value; }

const kpk_tensor &tensor_of(const kpk_arg &arg) {
  return *reinterpret_cast<const kpk_tensor *>(static_cast<uintptr_t>(arg.bits));
}

uint8_t element_type(const kpk_arg &arg) {
  return static_cast<uint8_t>(arg.type & ~(is_tensordesc(arg.type) ? KPK_TENSORDESC : KPK_POINTER));
}

// From the first to behind the last element. A map writes whole units of 16 bytes.
uint64_t tensor_bytes(const kpk_arg &arg) {
  const kpk_tensor &tensor = tensor_of(arg);
  int64_t last = 0;
  for (uint32_t i = 0; i < tensor.rank && i < 5; ++i) last += (tensor.shape[i] - 1) * tensor.strides[i];
  const auto bytes = static_cast<uint64_t>((last + 1) * element_bytes(arg.type));
  return (bytes + 15) / 16 * 16;
}

bool reaches_memory(const kpk_arg &arg) {
  if (is_tensordesc(arg.type)) return arg.bits != 0;
  return is_pointer(arg.type) && arg.bits != 0;
}

}  // namespace

Arena::~Arena() {
  for (const uint64_t address : {originals_, first_, more_}) {
    if (address != 0) bench_.release(address);
  }
}

kpk_status Arena::refuse(uint32_t param) const {
  const char *name = request_.regions[param].name;
  const char *shown = name == nullptr ? "" : name;
  if (made()) {
    return fail(KPK_ERROR_ARGUMENT,
                "%s: tuning: argument %u '%s': expected its extent, to make memory of that size, got none: "
                "write args={\"%s\": kpack.%s(bytes=\"...\")}",
                request_.subject, param + 1, shown, shown, request_.regions[param].written ? "out" : "in_");
  }
  return fail(KPK_ERROR_ARGUMENT,
              "%s: tuning: argument %u '%s' is written: expected its extent, to work on a copy, got none: "
              "write args={\"%s\": kpack.out(bytes=\"...\")}, or tune on memory that may be overwritten "
              "(KPK_TUNE_SCRATCH)",
              request_.subject, param + 1, shown, shown);
}

// Adds what a parameter reaches. `*next`: a free address, where memory is made.
kpk_status Arena::place(uint32_t param, uint64_t *next) {
  const kpk_arg &arg = request_.args[param];
  const Region &region = request_.regions[param];
  Place &place = places_[param];
  place.interval = kNone;
  if (!reaches_memory(arg)) return KPK_OK;
  const bool tensor = is_tensordesc(arg.type);
  place.address = tensor ? tensor_of(arg).address : arg.bits;
  place.bytes = region.bytes != 0 || !tensor ? region.bytes : tensor_bytes(arg);
  if (place.bytes == 0) {
    const bool may_stay = !made() && (!region.written || (request_.flags & KPK_TUNE_SCRATCH) != 0);
    return may_stay ? KPK_OK : refuse(param);
  }
  if (made()) {
    place.address = *next + place.address % kAlignment;
    *next = aligned(place.address + place.bytes);
  }
  if (place.bytes > UINT64_MAX - place.address - kAlignment) {
    return fail(KPK_ERROR_ARGUMENT,
                "%s: tuning: argument %u: expected an extent that memory has, got %llu bytes",
                request_.subject, param + 1, number(place.bytes));
  }
  const bool read = region.direction != KPK_DIRECTION_OUT;
  intervals_[interval_count_++] = {place.address, place.address + place.bytes, 0, 0, read, region.written};
  return KPK_OK;
}

// Joins what overlaps, until nothing does.
void Arena::merge() {
  for (uint32_t i = 0; i < interval_count_; ++i) {
    for (uint32_t j = i + 1; j < interval_count_; ++j) {
      Interval &a = intervals_[i];
      const Interval &b = intervals_[j];
      if (a.begin >= b.end || b.begin >= a.end) continue;
      a.begin = a.begin < b.begin ? a.begin : b.begin;
      a.end = a.end > b.end ? a.end : b.end;
      a.read = a.read || b.read;
      a.written = a.written || b.written;
      intervals_[j] = intervals_[--interval_count_];
      j = i;  // the larger one may overlap what the smaller did not
    }
  }
}

void Arena::lay_out() {
  for (const bool read : {true, false}) {
    for (uint32_t i = 0; i < interval_count_; ++i) {
      Interval &interval = intervals_[i];
      if (interval.read != read) continue;
      interval.offset = set_bytes_ + interval.begin % kAlignment;
      set_bytes_ = aligned(interval.offset + (interval.end - interval.begin));
      renews_ = renews_ || (interval.read && interval.written);
    }
    if (read) read_bytes_ = set_bytes_;
  }
}

// A pointer without extent into memory that is copied goes along.
void Arena::find_intervals() {
  for (Place &place : places_) {
    for (uint32_t i = 0; i < interval_count_; ++i) {
      const Interval &interval = intervals_[i];
      if (place.address >= interval.begin && place.address < interval.end) place.interval = i;
    }
  }
}

kpk_status Arena::plan() {
  if (!places_.allocate(request_.count) || !intervals_.allocate(request_.count)) {
    return fail(KPK_ERROR_MEMORY, "%s: tuning: no host memory", request_.subject);
  }
  uint64_t next = kAlignment;
  for (uint32_t i = 0; i < request_.count; ++i) {
    if (const kpk_status status = place(i, &next)) return status;
  }
  merge();
  lay_out();
  find_intervals();
  return KPK_OK;
}

kpk_status Arena::make_original(uint32_t param, uint64_t address) {
  const uint64_t bytes = places_[param].bytes;
  const uint8_t type = element_type(request_.args[param]);
  if (!is_float(type)) return bench_.fill(address, 0, bytes, request_.stream, request_.subject);
  HostArray<unsigned char> tile;
  uint64_t done = bytes < kTile ? bytes : kTile;
  if (!tile.allocate(done)) return fail(KPK_ERROR_MEMORY, "%s: tuning: no host memory", request_.subject);
  make_numbers(type, tile.data(), done);
  kpk_status status = bench_.write(address, tile.data(), done, request_.stream, request_.subject);
  while (status == KPK_OK && done < bytes) {
    const uint64_t more = bytes - done < done ? bytes - done : done;
    status = bench_.copy(address + done, address, more, request_.stream, request_.subject);
    done += more;
  }
  return status;
}

kpk_status Arena::keep_originals() {
  if (read_bytes_ == 0) return KPK_OK;
  if (const kpk_status status = bench_.allocate(read_bytes_, request_.subject, &originals_)) return status;
  for (uint32_t i = 0; i < interval_count_; ++i) {
    Interval &interval = intervals_[i];
    if (!interval.read) continue;
    interval.origin = originals_ + interval.offset;
    if (made()) continue;
    const uint64_t bytes = interval.end - interval.begin;
    if (const kpk_status status =
            bench_.copy(interval.origin, interval.begin, bytes, request_.stream, request_.subject)) {
      return status;
    }
  }
  // Nothing that is made overlaps: each interval is one parameter's.
  for (uint32_t i = 0; made() && i < request_.count; ++i) {
    if (places_[i].interval == kNone || !intervals_[places_[i].interval].read) continue;
    if (const kpk_status status = make_original(i, intervals_[places_[i].interval].origin)) return status;
  }
  return KPK_OK;
}

kpk_status Arena::open(uint64_t reserve) {
  const uint64_t parameters = uint64_t{kMostSets} * request_.count;
  if (!bases_.allocate(kMostSets) || !args_.allocate(parameters) || !tensors_.allocate(parameters)) {
    return fail(KPK_ERROR_MEMORY, "%s: tuning: no host memory", request_.subject);
  }
  uint64_t free = 0;
  if (const kpk_status status = bench_.free_bytes(request_.subject, &free)) return status;
  const uint64_t wanted = set_bytes_ + read_bytes_ + reserve;
  if (set_bytes_ > UINT64_MAX / 4 || wanted > free) {
    return fail(
        KPK_ERROR_MEMORY,
        "%s: tuning: expected %llu bytes of free device memory, for copies of what the call reads and writes "
        "and for flushing the cache, got %llu",
        request_.subject, number(wanted), number(free));
  }
  if (const kpk_status status = keep_originals()) return status;
  if (set_bytes_ != 0) {
    if (const kpk_status status = bench_.allocate(set_bytes_, request_.subject, &first_)) return status;
  }
  bases_[0] = first_;
  sets_ = 1;
  point(0);
  return KPK_OK;
}

kpk_status Arena::grow() {
  if (set_bytes_ == 0) return KPK_OK;
  uint64_t free = 0;
  if (const kpk_status status = bench_.free_bytes(request_.subject, &free)) return status;
  const uint64_t room = free / 2 < kMostBytes ? free / 2 : kMostBytes;
  uint64_t more = kMostSets - 1;  // than the first
  while (more > room / set_bytes_) more /= 2;
  // What is free may be in pieces.
  for (; more != 0; more /= 2) {
    const kpk_status status = bench_.allocate(more * set_bytes_, request_.subject, &more_);
    if (status == KPK_OK) break;
    more_ = 0;
    if (status != KPK_ERROR_MEMORY) return status;
  }
  for (uint64_t i = 0; i < more; ++i) {
    bases_[sets_] = more_ + i * set_bytes_;
    point(sets_);
    if (const kpk_status status = fill(sets_)) return status;
    ++sets_;
  }
  return KPK_OK;
}

// Makes the arguments of a set.
void Arena::point(uint32_t set) {
  kpk_arg *args = args_.data() + uint64_t{set} * request_.count;
  for (uint32_t i = 0; i < request_.count; ++i) {
    args[i] = request_.args[i];
    if (places_[i].interval == kNone) continue;
    const Interval &interval = intervals_[places_[i].interval];
    const uint64_t address = at(set, interval) + (places_[i].address - interval.begin);
    if (!is_tensordesc(args[i].type)) {
      args[i].bits = address;
      continue;
    }
    kpk_tensor &tensor = tensors_[uint64_t{set} * request_.count + i];
    tensor = tensor_of(args[i]);
    tensor.address = address;
    args[i].bits = reinterpret_cast<uintptr_t>(&tensor);
  }
}

kpk_status Arena::fill(uint32_t set) {
  for (uint32_t i = 0; i < interval_count_; ++i) {
    const Interval &interval = intervals_[i];
    const uint64_t to = at(set, interval), bytes = interval.end - interval.begin;
    const kpk_status status = interval.origin != 0
                                  ? bench_.copy(to, interval.origin, bytes, request_.stream, request_.subject)
                                  : bench_.fill(to, kGarbage, bytes, request_.stream, request_.subject);
    if (status != KPK_OK) return status;
  }
  return KPK_OK;
}

kpk_status Arena::renew(uint32_t set) {
  for (uint32_t i = 0; i < interval_count_; ++i) {
    const Interval &interval = intervals_[i];
    if (!interval.read || !interval.written) continue;
    const uint64_t bytes = interval.end - interval.begin;
    if (const kpk_status status =
            bench_.copy(at(set, interval), interval.origin, bytes, request_.stream, request_.subject)) {
      return status;
    }
  }
  return KPK_OK;
}

Arena::Output Arena::output(uint32_t set, uint32_t param) const {
  const Place &place = places_[param];
  if (place.interval == kNone || place.bytes == 0 || !request_.regions[param].written) return {0, 0, 0};
  const Interval &interval = intervals_[place.interval];
  return {at(set, interval) + (place.address - interval.begin), place.bytes,
          element_type(request_.args[param])};
}

}  // namespace kpk
