// What contenders wrote, read back to the host and compared: those that agree form a group, and the largest group is
// right, of equally large ones the one that came first.
#pragma once

#include <cstdint>

#include "message.h"
#include "tune/arena.h"
#include "tune/compare.h"
#include "tune/host_array.h"
#include "tune/search.h"

namespace kpk {

class Results {
 public:
  Results(const SearchRequest &request, const Arena &arena)
      : request_(request), bench_(*request.device->driver->bench), arena_(arena) {}

  kpk_status open();
  // Reads what `contender` wrote in set 0.
  kpk_status take(uint32_t contender);
  // After the last: which group is right.
  void settle();
  bool is_right(uint32_t contender) const { return group_of_[contender] == right_; }
  // "output 'out_ptr': 3 of 4096 elements differ, of element 17 expected 0.25, got 0.5": of one that is not right.
  void explain(uint32_t contender, Text *out) const;

 private:
  // Where a part of an output lies in what is read back.
  struct Piece {
    uint32_t param;
    uint64_t offset;  // in the output
    uint64_t at;      // in the data
    uint64_t bytes;
  };
  // Results are kept of the first that had them. What agrees with none, when there are this many, is alone.
  static constexpr uint32_t kMostGroups = 8, kAlone = kMostGroups;
  struct Group {
    HostArray<unsigned char> data;
    uint32_t members = 0;
  };
  // Where two first differ.
  struct Unlike {
    const Piece *piece;
    Difference difference;
    uint64_t of;  // elements of the piece
  };

  void cut(uint32_t param, bool count_only);
  bool agree(const unsigned char *expected, const unsigned char *got, Unlike *out) const;
  uint8_t type_of(const Piece &piece) const { return arena_.output(0, piece.param).type; }

  const SearchRequest &request_;
  const Bench &bench_;
  const Arena &arena_;
  HostArray<Piece> pieces_;
  uint64_t piece_count_ = 0, data_bytes_ = 0;
  HostArray<unsigned char> data_;  // of the last contender
  Group groups_[kMostGroups];
  uint32_t group_count_ = 0, right_ = 0;
  HostArray<uint32_t> group_of_;  // by contender
  HostArray<Unlike> alone_;       // by contender: how one that is alone differs from the first
};

}  // namespace kpk
