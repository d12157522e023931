// Device memory and the pools it comes from, alike in both fakes. It is host memory, so that copies, and kernels
// written in C, can be tested.
//
// What is given back stays as it was until 64 more blocks have gone: a launch that is still handed such an
// address is found out, and a test may look at what the kernel would have found there.
#ifndef KPACK_TESTS_FAKES_MEMORY_H
#define KPACK_TESTS_FAKES_MEMORY_H

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>

namespace fakes {

// Handles point at objects that are never freed: a stale one is recognised instead of read after free.
// Stranded: its context is gone; a handle that is refused, no dangling one.
enum class Life : uint32_t { kAlive = 0x616c6976, kDead = 0x64656164, kStranded = 0x73747264 };

// CUmemoryPool, hipMemPool_t. It keeps what was given back to it up to its threshold.
struct Pool {
  std::atomic<Life> life{Life::kAlive};
  int device = 0;
  uint64_t threshold = 0;  // bytes; this and what follows: of Memory's mutex
  uint64_t used = 0;
  uint64_t reserved = 0;
};

// CUmemPoolProps, hipMemPoolProps.
struct PoolProps {
  int32_t allocation_type;
  int32_t handle_types;
  int32_t location_type;
  int32_t location;
  void *security;
  unsigned char reserved[64];
};
static_assert(sizeof(PoolProps) == 88, "CUmemPoolProps, hipMemPoolProps");
// A pool of pinned memory of one of so many devices, to be shared with nobody: what the fakes know.
bool are_plain(const PoolProps &props, size_t devices);
constexpr int kReleaseThreshold = 4;  // of both vendors

constexpr uint64_t kCapacity = uint64_t{64} << 20;  // bytes, until a test says otherwise

class Memory {
 public:
  // Memory that is there until it is released, zeroed; null where there is not so much.
  void *allocate(size_t bytes);
  // What there is for it, and what is left.
  void set_capacity(uint64_t bytes);
  uint64_t capacity();
  uint64_t left();
  bool release(void *address);

  // Memory in a stream's order, full of garbage. `captured`: the stream is capturing, so that the memory is the
  // graph's.
  void *allocate_in_stream(size_t bytes, int device, bool captured, Pool *pool = nullptr);
  // What is wrong with giving it back on a stream that is, or is not, capturing; "" if nothing was.
  std::string release_in_stream(void *address, bool captured);
  // What is wrong with setting these bytes on a stream; "" if nothing is, and then they are set.
  std::string fill(void *address, int value, size_t bytes);
  // What is wrong with copying from or to these bytes; "" if nothing is.
  std::string bounds(uint64_t address, size_t bytes);
  // What is wrong with a launch that takes this address; "" for all that is no memory of the fake.
  std::string fault(uint64_t address, int device, bool captured);

  Pool *create_pool(int device);
  void set_threshold(Pool *pool, uint64_t bytes);
  void clear();  // all of it, pools too

  uint64_t live();
  uint64_t live_pools();
  uint64_t reserved();  // bytes that pools keep

 private:
  struct Block {
    void *raw = nullptr;  // what malloc gave
    size_t bytes = 0;
    bool in_stream = false;
    bool captured = false;
    int device = 0;
    Pool *pool = nullptr;
  };
  struct Gone {
    void *address;
    Block block;
  };

  void *add(size_t bytes, const Block &like);
  void retire(std::map<void *, Block>::iterator found);
  const Block *find(uint64_t address) const;
  const Gone *find_gone(uint64_t address) const;
  std::string outside(uint64_t begin, size_t bytes) const;

  std::mutex mutex_;
  uint64_t capacity_ = kCapacity;
  uint64_t taken_ = 0;              // of it
  std::map<void *, Block> blocks_;  // by aligned address
  std::deque<Gone> gone_;
  std::deque<Pool> pools_;
};

}  // namespace fakes
#endif
