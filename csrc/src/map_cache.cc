#include "map_cache.h"

#include <atomic>
#include <cstring>

namespace kpk {
namespace {

constexpr uint32_t kMapWords = kMapBytes / sizeof(uint64_t);

// A sequence lock: `sequence` is odd while the entry is written, 0 before it was. Every word is an atomic of
// its own, acquired and released instead of fenced (thread sanitizers do not know fences): a reader that saw
// one word of a later write sees that write's sequence, too. The key of a small tensor lies in the first
// line.
struct alignas(64) Entry {
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> key[MapKey::kMostWords];
  std::atomic<uint64_t> map[kMapWords];
};
static_assert(sizeof(Entry) == 256, "two lines of key, two of map");

constexpr uint32_t kSetBits = 9, kWays = 2;
Entry g_entries[1 << kSetBits][kWays];

// The top bits of a product depend on every bit below. Sums of odd multiples: no word waits for another.
Entry *set_of(const MapKey &key) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < key.count; ++i) sum += key.words[i] * (2 * i + 1);
  return g_entries[(sum * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - kSetBits)];
}

bool read(const Entry &entry, const MapKey &key, unsigned char *map) {
  const uint64_t sequence = entry.sequence.load(std::memory_order_acquire);
  if (sequence == 0 || (sequence & 1) != 0) return false;
  for (uint32_t i = 0; i < key.count; ++i) {
    if (entry.key[i].load(std::memory_order_acquire) != key.words[i]) return false;
  }
  for (uint32_t i = 0; i < kMapWords; ++i) {
    const uint64_t word = entry.map[i].load(std::memory_order_acquire);
    std::memcpy(map + i * sizeof word, &word, sizeof word);
  }
  return entry.sequence.load(std::memory_order_relaxed) == sequence;
}

uint64_t packed(uint64_t low, uint64_t high, uint32_t low_bits) { return low | high << low_bits; }

// Corners of 16 bits each and element strides of 8 bits each, as checked; three words.
void add_im2col(const kpk_tensor &tensor, MapKey *key) {
  unsigned char bytes[24] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const int16_t corners[] = {static_cast<int16_t>(tensor.lower_corner[i]),
                               static_cast<int16_t>(tensor.upper_corner[i])};
    std::memcpy(bytes + i * sizeof corners, corners, sizeof corners);
  }
  for (uint32_t i = 0; i < 5; ++i) bytes[12 + i] = static_cast<unsigned char>(tensor.element_strides[i]);
  std::memcpy(key->words + key->count, bytes, sizeof bytes);
  key->count += 3;
}

}  // namespace

MapKey map_key(const Device &device, const kpk_tensor &tensor, const kpk_abi_tensordesc &wanted) {
  MapKey key;
  const uint64_t where = packed(device.slot, tensor.flags, 16) | uint64_t{tensor.rank} << 24;
  const uint64_t what = packed(wanted.type, wanted.swizzle, 8) | uint64_t{wanted.element_bytes} << 16 |
                        uint64_t{wanted.flags} << 24;
  key.words[0] = packed(where, what, 32);
  key.words[1] = tensor.address;
  key.count = 2;
  for (uint32_t i = 0; i < tensor.rank; ++i) key.words[key.count++] = static_cast<uint64_t>(tensor.shape[i]);
  for (uint32_t i = 0; i + 1 < tensor.rank; ++i)  // the last is 1
    key.words[key.count++] = static_cast<uint64_t>(tensor.strides[i]);
  const bool im2col = (wanted.flags & KPK_DESC_IM2COL) != 0;
  const uint32_t sides = im2col ? 2 : tensor.rank;
  for (uint32_t i = 0; i < sides; i += 2)
    key.words[key.count++] = packed(wanted.box[i], i + 1 < sides ? wanted.box[i + 1] : 0, 32);
  if (im2col) add_im2col(tensor, &key);
  return key;
}

bool find_map(const MapKey &key, unsigned char *map) {
  const Entry *set = set_of(key);
  return read(set[0], key, map) || read(set[1], key, map);
}

void keep_map(const MapKey &key, const unsigned char *map) {
  Entry *set = set_of(key);
  // The way that was written less often: they take turns.
  Entry &entry =
      set[set[1].sequence.load(std::memory_order_relaxed) < set[0].sequence.load(std::memory_order_relaxed)];
  uint64_t sequence = entry.sequence.load(std::memory_order_relaxed);
  if ((sequence & 1) != 0 ||
      !entry.sequence.compare_exchange_strong(sequence, sequence + 1, std::memory_order_acq_rel)) {
    return;
  }
  for (uint32_t i = 0; i < key.count; ++i) entry.key[i].store(key.words[i], std::memory_order_release);
  uint64_t words[kMapWords];
  std::memcpy(words, map, sizeof words);
  for (uint32_t i = 0; i < kMapWords; ++i) entry.map[i].store(words[i], std::memory_order_release);
  entry.sequence.store(sequence + 2, std::memory_order_release);
}

}  // namespace kpk
