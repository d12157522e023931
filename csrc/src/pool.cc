#include "pool.h"

#include <sched.h>

#include "message.h"

namespace kpk {
namespace {

// Empties the slot; what was in it and is now used by nobody, or null.
void *take_pool(PoolSlot &slot) {
  void *native = slot.native.exchange(nullptr, std::memory_order_seq_cst);
  while (native != nullptr && slot.users.load(std::memory_order_seq_cst) != 0) sched_yield();
  return native;
}

// False if there is one already.
bool put_pool(PoolSlot &slot, void *native) {
  void *none = nullptr;
  return slot.native.compare_exchange_strong(none, native, std::memory_order_seq_cst);
}

// Fills the pool that there is; `*found` false: there is none.
kpk_status refill(PoolSlot &slot, const PoolDriver &driver, const Device &device, size_t bytes, bool *found) {
  const InUse pool(slot);
  *found = pool.native() != nullptr;
  return *found ? driver.fill(device, pool.native(), bytes) : KPK_OK;
}

// Makes one; `*settled` false: another thread was first, and its pool is the one to fill.
kpk_status make(PoolSlot &slot, const PoolDriver &driver, const Device &device, size_t bytes, bool *settled) {
  void *made = nullptr;
  *settled = true;
  if (const kpk_status status = driver.create(device, &made)) return status;
  const kpk_status status = driver.fill(device, made, bytes);
  if (status == KPK_OK && put_pool(slot, made)) return KPK_OK;
  const KeepMessage kept;
  driver.destroy(device, made);
  *settled = status != KPK_OK;
  return status;
}

}  // namespace

kpk_status reserve_in(PoolSlot &slot, const PoolDriver &driver, const Device &device, size_t bytes) {
  if (bytes == 0) {
    void *pool = take_pool(slot);
    return pool == nullptr ? KPK_OK : driver.destroy(device, pool);
  }
  for (;;) {
    bool settled = false;
    kpk_status status = refill(slot, driver, device, bytes, &settled);
    if (!settled) status = make(slot, driver, device, bytes, &settled);
    if (settled) return status;
  }
}

}  // namespace kpk
