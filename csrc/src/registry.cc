// What is linked: packs and their kernels, as the linker left them. Nothing is registered, so there is
// nothing to look after: a look-up is a binary search in read-only memory.

#include <kpack/kpack.h>

#include <cstring>

#include "describe.h"
#include "message.h"
#include "view.h"

namespace {

using kpk::Table;

Table<kpk_abi_entry> entries(const kpk_pack *pack) { return Table<kpk_abi_entry>(pack->kernels); }

}  // namespace

extern "C" {

const kpk_pack *kpk_pack_of(const kpk_abi_record *record) {
  if (record == nullptr) return kpk::fail(KPK_ERROR_ARGUMENT, "pack: expected a record, got null"), nullptr;
  if (record->major > KPK_ABI_MAJOR) {
    kpk::fail(KPK_ERROR_FORMAT, "pack: expected major version %d at most, got %u: use a newer runtime",
              KPK_ABI_MAJOR, record->major);
    return nullptr;
  }
  const kpk_pack *pack = kpk::follow<kpk_pack>(record->pack);
  if (pack == nullptr || pack->must_understand != 0) {
    kpk::fail(KPK_ERROR_FORMAT,
              "pack %s: needs feature bits that this runtime does not know: use a newer one",
              pack == nullptr ? "?" : kpk::text(pack->name));
    return nullptr;
  }
  return pack;
}

uint32_t kpk_pack_size(const kpk_pack *pack) { return pack->kernels.count; }

const kpk_kernel *kpk_pack_kernel(const kpk_pack *pack, uint32_t index) {
  return index < pack->kernels.count ? kpk::follow<kpk_kernel>(entries(pack)[index].kernel) : nullptr;
}

const kpk_kernel *kpk_pack_find(const kpk_pack *pack, const char *name) {
  const Table<kpk_abi_entry> table = entries(pack);
  uint32_t low = 0, high = table.size();
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const int order = std::strcmp(name, kpk::text(table[middle].name));
    if (order == 0) return kpk::follow<kpk_kernel>(table[middle].kernel);
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return nullptr;
}

const char *kpk_pack_name(const kpk_pack *pack) { return kpk::text(pack->name); }
const char *kpk_kernel_name(const kpk_kernel *kernel) { return kpk::text(kernel->name); }

size_t kpk_kernel_prototype(const kpk_kernel *kernel, char *text, size_t bytes) {
  kpk::Text out(text, bytes);
  kpk::add_prototype(kpk::KernelView(*kernel), &out);
  return out.length();
}

}  // extern "C"
