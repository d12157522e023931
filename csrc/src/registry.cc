// What is linked: packs and their kernels, as the linker left them. Nothing is registered, so there is
// nothing to look after: a look-up reads the pack's own table of names, in read-only memory.

#include <kpack/kpack.h>

#include <cstddef>
#include <cstring>

#include "describe.h"
#include "message.h"
#include "view.h"

namespace {

using kpk::Table;

Table<kpk_abi_entry> entries(const kpk_pack *pack) { return Table<kpk_abi_entry>(pack->kernels); }

uint64_t word_at(const char *bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

// See KPK_NAME_SEED. Both hosts that there are archives for are little-endian.
uint64_t hash_of(const char *name) {
  const size_t bytes = std::strlen(name);
  uint64_t hash = KPK_NAME_SEED;
  const auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * KPK_NAME_PRIME;
    hash ^= hash >> 32;
  };
  size_t at = 0;
  for (; at + 8 <= bytes; at += 8) mix(word_at(name + at));
  const size_t rest = bytes - at;
  if (rest != 0 && bytes >= 8) {
    mix(word_at(name + bytes - 8) >> (64 - 8 * rest));  // no byte behind the name is read
  } else if (rest != 0) {
    uint64_t word = 0;
    for (size_t i = 0; i < rest; ++i) word |= uint64_t{static_cast<uint8_t>(name[i])} << (8 * i);
    mix(word);
  }
  mix(bytes);
  return hash;
}

const kpk_abi_entry *find_by_hash(const Table<kpk_abi_entry> &table, const Table<kpk_abi_name> &names,
                                  const char *name) {
  const uint64_t hash = hash_of(name);
  const uint32_t last = names.size() - 1;
  for (uint32_t at = static_cast<uint32_t>(hash) & last; names[at].entry != 0; at = (at + 1) & last) {
    if (names[at].hash != static_cast<uint32_t>(hash >> 32)) continue;
    const kpk_abi_entry &entry = table[names[at].entry - 1];
    if (std::strcmp(name, kpk::text(entry.name)) == 0) return &entry;
  }
  return nullptr;
}

// In a pack of ABI 1.0.
const kpk_abi_entry *find_by_order(const Table<kpk_abi_entry> &table, const char *name) {
  uint32_t low = 0, high = table.size();
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const int order = std::strcmp(name, kpk::text(table[middle].name));
    if (order == 0) return &table[middle];
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return nullptr;
}

bool has_names(const kpk_pack *pack) {
  return pack->size >= offsetof(kpk_abi_pack, names) + sizeof pack->names && pack->names.count != 0;
}

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
  const kpk_abi_entry *found = has_names(pack) ? find_by_hash(table, Table<kpk_abi_name>(pack->names), name)
                                               : find_by_order(table, name);
  return found == nullptr ? nullptr : kpk::follow<kpk_kernel>(found->kernel);
}

const char *kpk_pack_name(const kpk_pack *pack) { return kpk::text(pack->name); }
const char *kpk_kernel_name(const kpk_kernel *kernel) { return kpk::text(kernel->name); }

size_t kpk_kernel_prototype(const kpk_kernel *kernel, char *text, size_t bytes) {
  kpk::Text out(text, bytes);
  kpk::add_prototype(kpk::KernelView(*kernel), &out);
  return out.length();
}

}  // extern "C"
