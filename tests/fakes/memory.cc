#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "recorder.h"

namespace fakes {
namespace {

// Device allocations are aligned to 256 bytes on both vendors; not more here, so that a test that needs
// more than it asked for is found out.
constexpr uintptr_t kAlignment = 256;
constexpr int kGarbage = 0xa5;
constexpr size_t kMostGarbage = size_t{1} << 20;  // bytes: pages of more are not touched for it
constexpr size_t kKept = 64;                      // blocks

}  // namespace

bool are_plain(const PoolProps &props, size_t devices) {
  constexpr int32_t pinned = 1, none = 0, on_device = 1;
  const unsigned char *end = props.reserved + sizeof props.reserved;
  return props.allocation_type == pinned && props.handle_types == none && props.location_type == on_device &&
         props.location >= 0 && static_cast<size_t>(props.location) < devices && props.security == nullptr &&
         std::all_of(props.reserved, end, [](unsigned char byte) { return byte == 0; });
}

// With the lock held: at an odd multiple of the alignment.
void *Memory::add(size_t bytes, const Block &like) {
  if (bytes > SIZE_MAX - 2 * kAlignment) return nullptr;
  void *raw = std::calloc(bytes + 2 * kAlignment, 1);
  if (raw == nullptr) return nullptr;
  const uintptr_t aligned =
      (reinterpret_cast<uintptr_t>(raw) + 2 * kAlignment - 1) / (2 * kAlignment) * (2 * kAlignment);
  const uintptr_t odd =
      aligned - reinterpret_cast<uintptr_t>(raw) >= kAlignment ? aligned - kAlignment : aligned + kAlignment;
  void *address = reinterpret_cast<void *>(odd);
  Block &block = blocks_[address] = like;
  block.raw = raw;
  block.bytes = bytes;
  return address;
}

// With the lock held.
void Memory::retire(std::map<void *, Block>::iterator found) {
  if (Pool *pool = found->second.pool; pool != nullptr) {
    pool->used -= found->second.bytes;
    pool->reserved = std::max(pool->used, std::min(pool->reserved, pool->threshold));
  }
  if (!found->second.in_stream) taken_ -= found->second.bytes;
  gone_.push_back({found->first, found->second});
  blocks_.erase(found);
  if (gone_.size() <= kKept) return;
  std::free(gone_.front().block.raw);
  gone_.pop_front();
}

void *Memory::allocate(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (bytes > capacity_ - std::min(capacity_, taken_)) return nullptr;
  void *address = add(bytes, Block());
  if (address != nullptr) taken_ += bytes;
  return address;
}

void Memory::set_capacity(uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  capacity_ = bytes;
}

uint64_t Memory::capacity() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return capacity_;
}

uint64_t Memory::left() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return capacity_ - std::min(capacity_, taken_);
}

bool Memory::release(void *address) {
  if (address == nullptr) return true;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = blocks_.find(address);
  if (found == blocks_.end()) return false;
  retire(found);
  return true;
}

void *Memory::allocate_in_stream(size_t bytes, int device, bool captured, Pool *pool) {
  Block like;
  like.in_stream = true;
  like.captured = captured;
  like.device = device;
  like.pool = captured ? nullptr : pool;  // in a capture the graph allocates, when it runs
  const std::lock_guard<std::mutex> lock(mutex_);
  void *address = add(bytes, like);
  if (address == nullptr) return nullptr;
  std::memset(address, kGarbage, std::min(bytes, kMostGarbage));
  if (like.pool == nullptr) return address;
  pool->used += bytes;
  pool->reserved = std::max(pool->reserved, pool->used);
  return address;
}

std::string Memory::release_in_stream(void *address, bool captured) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = blocks_.find(address);
  const std::string where = hex(reinterpret_cast<uintptr_t>(address));
  if (found == blocks_.end()) {
    const bool twice = find_gone(reinterpret_cast<uintptr_t>(address)) != nullptr;
    return where + (twice ? " was given back before" : " is no memory of this driver");
  }
  if (found->second.captured != captured) {
    return where + (captured ? " is no memory of the graph that is being captured"
                             : " is a graph's and is given back outside of it");
  }
  retire(found);
  return "";
}

// With the lock held.
std::string Memory::outside(uint64_t begin, size_t bytes) const {
  const Block *block = find(begin);
  const Block *last = bytes == 0 ? block : find(begin + bytes - 1);
  if (block != nullptr && last == block) return "";
  return std::to_string(bytes) + " bytes at " + hex(begin) + " are not in one block of memory";
}

std::string Memory::fill(void *address, int value, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::string fault = outside(reinterpret_cast<uintptr_t>(address), bytes);
  if (fault.empty()) std::memset(address, value, bytes);
  return fault;
}

std::string Memory::bounds(uint64_t address, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return outside(address, bytes);
}

std::string Memory::fault(uint64_t address, int device, bool captured) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const Block *block = find(address); block != nullptr) {
    if (block->in_stream && block->device != device) {
      return hex(address) + " is memory of device " + std::to_string(block->device);
    }
    if (block->captured && !captured) return hex(address) + " is memory of a graph";
    return "";
  }
  return find_gone(address) == nullptr ? "" : hex(address) + " is memory that was given back";
}

// With the lock held: the live block that the address is in.
const Memory::Block *Memory::find(uint64_t address) const {
  auto after = blocks_.upper_bound(reinterpret_cast<void *>(address));
  if (after == blocks_.begin()) return nullptr;
  --after;
  const bool inside = address - reinterpret_cast<uintptr_t>(after->first) < after->second.bytes;
  return inside ? &after->second : nullptr;
}

const Memory::Gone *Memory::find_gone(uint64_t address) const {
  for (const Gone &gone : gone_) {
    const auto begin = reinterpret_cast<uintptr_t>(gone.address);
    if (address >= begin && address - begin < gone.block.bytes) return &gone;
  }
  return nullptr;
}

Pool *Memory::create_pool(int device) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Pool &pool = pools_.emplace_back();
  pool.device = device;
  return &pool;
}

void Memory::set_threshold(Pool *pool, uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  pool->threshold = bytes;
}

void Memory::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (!blocks_.empty()) retire(blocks_.begin());
  for (Pool &pool : pools_) pool.life.store(Life::kDead);
}

uint64_t Memory::live() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return blocks_.size();
}

uint64_t Memory::live_pools() {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t count = 0;
  for (const Pool &pool : pools_) count += pool.life.load() == Life::kAlive ? 1 : 0;
  return count;
}

uint64_t Memory::reserved() {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t bytes = 0;
  for (const Pool &pool : pools_) bytes += pool.life.load() == Life::kAlive ? pool.reserved : 0;
  return bytes;
}

}  // namespace fakes
