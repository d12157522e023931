// A pool of device memory that launches draw from while another thread may give it back: who uses it says so
// for the time of one driver call, and who takes it away waits for them. No lock is held across the driver.
#pragma once

#include <atomic>
#include <cstddef>

#include "driver.h"

namespace kpk {

// The pool of one device.
struct alignas(64) PoolSlot {
  std::atomic<void *> native;  // CUmemoryPool, hipMemPool_t; null: there is none
  std::atomic<unsigned> users;
};

// Holds what is in the slot. The order of its two accesses, against that of take_pool(), is what makes it safe:
// either the taker sees the user, or the user sees an empty slot.
class InUse {
 public:
  explicit InUse(PoolSlot &slot) : slot_(slot) {
    slot_.users.fetch_add(1, std::memory_order_seq_cst);
    native_ = slot_.native.load(std::memory_order_seq_cst);
  }
  ~InUse() { slot_.users.fetch_sub(1, std::memory_order_release); }
  InUse(const InUse &) = delete;
  InUse &operator=(const InUse &) = delete;
  void *native() const { return native_; }

 private:
  PoolSlot &slot_;
  void *native_;
};

// What a vendor's driver does for it.
struct PoolDriver {
  // A pool that gives nothing back to the driver before it is destroyed.
  kpk_status (*create)(const Device &device, void **pool);
  // Makes the pool have so many bytes, for every stream at once.
  kpk_status (*fill)(const Device &device, void *pool, size_t bytes);
  kpk_status (*destroy)(const Device &device, void *pool);
};

// Driver::reserve(): the pool of the slot is made, grows, or goes. After a failure it is as it was before.
kpk_status reserve_in(PoolSlot &slot, const PoolDriver &driver, const Device &device, size_t bytes);

}  // namespace kpk
