// The device memory of a search: several copies of all that the call's pointers reach. What overlaps in the call does
// so in each copy, and every address keeps its remainder modulo 256, so that a contender that works in place, or wants
// alignment, meets what it would meet in the call.
#pragma once

#include <cstdint>

#include "tune/host_array.h"
#include "tune/search.h"

namespace kpk {

class Arena {
 public:
  explicit Arena(const SearchRequest &request) : request_(request), bench_(*request.device->driver->bench) {}
  ~Arena();
  Arena(const Arena &) = delete;
  Arena &operator=(const Arena &) = delete;

  // Finds out what there is to copy. Asks no driver. KPK_ERROR_ARGUMENT where a written pointer has no extent.
  kpk_status plan();
  // Makes room for one set, and for what is read as it is now, so that all contenders find the same whatever the caller's
  // other streams do, beside `reserve` bytes that the search wants for itself. KPK_ERROR_MEMORY.
  kpk_status open(uint64_t reserve);
  // Makes room for more, as many as are of use and as half of the memory that is free takes, and fills them: a power of
  // two in all. How fast a kernel is depends by a percent or two on where its memory lies: several sets are several
  // samples of that.
  kpk_status grow();
  uint32_t sets() const { return sets_; }
  // Is there anything that differs between sets?
  bool has_copies() const { return set_bytes_ != 0; }

  // As the call has it: what is read is copied anew, what is only written becomes garbage (all bits set: NaN).
  kpk_status fill(uint32_t set);
  // Copies anew what a run both reads and changes.
  kpk_status renew(uint32_t set);
  bool renews() const { return renews_; }

  // The call's arguments, in the memory of a set.
  const kpk_arg *args(uint32_t set) const { return args_.data() + uint64_t{set} * request_.count; }

  // What is compared: what parameter `param` of a set points at, or nothing (bytes 0) where it is not written, or has
  // no extent.
  struct Output {
    uint64_t address, bytes;
    uint8_t type;  // of an element
  };
  Output output(uint32_t set, uint32_t param) const;

 private:
  // Bytes of the call that belong together.
  struct Interval {
    uint64_t begin, end;  // addresses; with KPK_TUNE_ALLOCATE such as could be
    uint64_t offset;      // in a set: begin modulo 256
    uint64_t origin;      // what they are copied from; 0: nothing, since they are only written
    bool read, written;
  };
  // What a parameter has to do with it.
  struct Place {
    uint64_t address, bytes;
    uint32_t interval;  // kNone: it is passed as it is
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  bool made() const { return (request_.flags & KPK_TUNE_ALLOCATE) != 0; }
  kpk_status place(uint32_t param, uint64_t *next);
  kpk_status refuse(uint32_t param) const;
  void merge();
  void lay_out();
  void find_intervals();
  kpk_status keep_originals();
  kpk_status make_original(uint32_t param, uint64_t address);
  void point(uint32_t set);
  uint64_t at(uint32_t set, const Interval &interval) const { return bases_[set] + interval.offset; }

  const SearchRequest &request_;
  const Bench &bench_;
  HostArray<Place> places_;  // by parameter
  HostArray<Interval> intervals_;
  uint32_t interval_count_ = 0;
  uint64_t set_bytes_ = 0, read_bytes_ = 0;  // what is read comes first
  bool renews_ = false;
  uint64_t originals_ = 0, first_ = 0, more_ = 0;  // addresses of what is allocated; 0: nothing
  uint32_t sets_ = 0;
  HostArray<uint64_t> bases_;  // by set
  HostArray<kpk_arg> args_;    // by set and parameter
  HostArray<kpk_tensor> tensors_;
};

constexpr uint32_t kMostSets = 32;

}  // namespace kpk
