#include "tune/results.h"

#include <initializer_list>

#include "types.h"

namespace kpk {
namespace {

constexpr uint64_t kMostBytes = uint64_t{64} << 20;  // of an output; of a larger one so much in pieces
constexpr uint64_t kPieces = 64;                     // evenly spaced, the first and the last bytes among them
constexpr uint64_t kPieceBytes = kMostBytes / kPieces;

kpk_status no_memory(const SearchRequest &request) {
  return fail(KPK_ERROR_MEMORY, "%s: tuning: no host memory for results", request.subject);
}

uint64_t width_of(uint8_t type) {
  const int64_t bytes = element_bytes(type);
  return bytes <= 0 ? 1 : static_cast<uint64_t>(bytes);
}

}  // namespace

void Results::cut(uint32_t param, bool count_only) {
  const Arena::Output output = arena_.output(0, param);
  if (output.bytes == 0) return;
  const bool whole = output.bytes <= kMostBytes;
  const uint64_t count = whole ? 1 : kPieces, bytes = whole ? output.bytes : kPieceBytes;
  const uint64_t width = width_of(output.type);
  for (uint64_t i = 0; i < count; ++i, ++piece_count_) {
    if (count_only) continue;
    uint64_t offset = whole ? 0 : (output.bytes - bytes) / (count - 1) * i / width * width;
    if (!whole && i == count - 1) offset = (output.bytes - bytes) / width * width;
    pieces_[piece_count_] = {param, offset, data_bytes_, bytes};
    data_bytes_ += bytes;
  }
}

kpk_status Results::open() {
  for (const bool count_only : {true, false}) {
    if (!count_only && !pieces_.allocate(piece_count_)) return no_memory(request_);
    piece_count_ = 0;
    for (uint32_t i = 0; i < request_.count; ++i) cut(i, count_only);
  }
  const bool room = group_of_.allocate(request_.contender_count) && alone_.allocate(request_.contender_count);
  if (!room) return no_memory(request_);
  for (uint32_t &group : group_of_) group = kAlone + 1;  // nothing was taken of it
  return KPK_OK;
}

bool Results::agree(const unsigned char *expected, const unsigned char *got, Unlike *out) const {
  const double factor = request_.tolerance > 0 ? request_.tolerance : 1;
  for (const Piece &piece : pieces_) {
    const uint8_t type = type_of(piece);
    const double mean = magnitude(type, expected + piece.at, piece.bytes);
    const Difference difference =
        compare(type, expected + piece.at, got + piece.at, piece.bytes, factor, mean);
    if (difference.count == 0) continue;
    *out = {&piece, difference, piece.bytes / width_of(type)};
    return false;
  }
  return true;
}

kpk_status Results::take(uint32_t contender) {
  if (data_.data() == nullptr && !data_.allocate(data_bytes_)) return no_memory(request_);
  for (const Piece &piece : pieces_) {
    const uint64_t from = arena_.output(0, piece.param).address + piece.offset;
    if (const kpk_status status =
            bench_.read(data_.data() + piece.at, from, piece.bytes, request_.stream, request_.subject)) {
      return status;
    }
  }
  uint32_t group = 0;
  Unlike unlike;
  while (group < group_count_ && !agree(groups_[group].data.data(), data_.data(), &unlike)) {
    if (group++ == 0) alone_[contender] = unlike;
  }
  group_of_[contender] = group;
  if (group == kAlone) return KPK_OK;
  if (group == group_count_) groups_[group_count_++].data.take(data_);
  ++groups_[group].members;
  return KPK_OK;
}

void Results::settle() {
  for (uint32_t i = 0; i < group_count_; ++i) {
    if (groups_[i].members > groups_[right_].members) right_ = i;
  }
}

void Results::explain(uint32_t contender, Text *out) const {
  const uint32_t group = group_of_[contender];
  Unlike unlike = alone_[contender];
  if (group < group_count_ && agree(groups_[right_].data.data(), groups_[group].data.data(), &unlike)) return;
  const Piece &piece = *unlike.piece;
  const uint64_t before = piece.offset / width_of(type_of(piece));
  const char *name = request_.regions[piece.param].name;
  out->add("output '%s': %llu of %llu elements differ, of element %llu expected %g, got %g",
           name == nullptr ? "" : name, static_cast<unsigned long long>(unlike.difference.count),
           static_cast<unsigned long long>(unlike.of),
           static_cast<unsigned long long>(before + unlike.difference.first), unlike.difference.expected,
           unlike.difference.got);
}

}  // namespace kpk
