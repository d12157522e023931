/* Prints a pack as the program finds it in its own memory, with nothing but abi.h. */
#ifndef DUMP_H
#define DUMP_H

#include <inttypes.h>
#include <kpack/abi.h>
#include <stdio.h>
#include <string.h>

static inline const void *follow(const kpk_ref *ref) {
  return *ref ? (const char *)ref + *ref : (const char *)0;
}

static inline const char *text(const kpk_ref *ref) {
  const char *found = (const char *)follow(ref);
  return found ? found : "-";
}

/* Record `index` of a table. */
static inline const void *at(const kpk_table *table, uint32_t index) {
  return (const char *)follow(&table->data) + (size_t)index * table->stride;
}

/* FNV-1a: enough to see that every byte arrived. */
static inline uint64_t sum(const unsigned char *bytes, uint64_t count) {
  uint64_t value = KPK_SIGNATURE_SEED;
  for (uint64_t i = 0; i < count; ++i) value = (value ^ bytes[i]) * KPK_SIGNATURE_PRIME;
  return value;
}

static inline void dump_image(const kpk_abi_kernel *kernel, const kpk_abi_image *image) {
  const kpk_abi_target *target = (const kpk_abi_target *)at(&kernel->targets, image->target);
  const unsigned char *data = (const unsigned char *)follow(&image->data);
  const uintptr_t align = target->kind == KPK_IMAGE_HSACO ? 4096 : 64;
  printf("  image %s %s %s %s %" PRIu64 " bytes %016" PRIx64 "%s%s\n", text(&image->symbol),
         text(&target->name), text(&target->processor), text(&image->entry), image->raw_bytes,
         sum(data, image->raw_bytes), (uintptr_t)data % align ? " misaligned" : "",
         target->kind == KPK_IMAGE_PTX && data[image->raw_bytes - 1] ? " unterminated" : "");
  printf("   slots");
  for (uint32_t i = 0; i < image->layout.count; ++i) {
    const kpk_abi_slot *slot = (const kpk_abi_slot *)at(&image->layout, i);
    printf(" %u:%u@%" PRIu32 "+%" PRIu32, slot->source, slot->index, slot->offset, slot->size);
  }
  printf("\n");
}

/* The state slot is the one thing that is written to: it must be there, zeroed, aligned and writable. */
static inline void dump_state(const kpk_abi_kernel *kernel) {
  unsigned char *state = (unsigned char *)(uintptr_t)follow(&kernel->state);
  int zeroed = 1;
  for (uint32_t i = 0; i < kernel->state_bytes; ++i) zeroed = zeroed && state[i] == 0;
  memset(state, 0, kernel->state_bytes);
  printf(" state %" PRIu32 "%s%s\n", kernel->state_bytes, zeroed ? "" : " not zeroed",
         (uintptr_t)state % 64 ? " misaligned" : "");
}

static inline void dump_kernel(const kpk_abi_kernel *kernel) {
  printf("kernel %s of %s %016" PRIx64 "\n", text(&kernel->name), text(&kernel->pack), kernel->hash);
  printf(" guard %s grid %s source %s\n", text(&kernel->guard_text), text(&kernel->grid_text),
         text(&kernel->source));
  dump_state(kernel);
  for (uint32_t i = 0; i < kernel->params.count; ++i) {
    const kpk_abi_param *param = (const kpk_abi_param *)at(&kernel->params, i);
    printf(" param %s %u\n", text(&param->name), param->type);
  }
  for (uint32_t i = 0; i < kernel->overloads.count; ++i) {
    const kpk_abi_overload *overload = (const kpk_abi_overload *)at(&kernel->overloads, i);
    const kpk_value *selected = (const kpk_value *)follow(&overload->selected);
    printf(" overload %016" PRIx64 " %s\n", overload->signature,
           selected->type == KPK_STRING ? text(&selected->bits) : "-");
  }
  for (uint32_t i = 0; i < kernel->variants.count; ++i) {
    const kpk_abi_variant *variant = (const kpk_abi_variant *)at(&kernel->variants, i);
    const kpk_value *constexprs = (const kpk_value *)follow(&variant->constexprs);
    printf(" variant %s first constexpr %" PRId64 "\n", text(&variant->name), constexprs->bits);
    for (uint32_t j = 0; j < variant->image_count; ++j)
      dump_image(kernel, (const kpk_abi_image *)at(&kernel->images, variant->first_image + j));
  }
}

static inline void dump_record(const kpk_abi_record *record) {
  const kpk_abi_pack *pack = (const kpk_abi_pack *)follow(&record->pack);
  printf("pack %s major %" PRIu32 "\n", text(&pack->name), record->major);
  for (uint32_t i = 0; i < pack->kernels.count; ++i) {
    const kpk_abi_entry *entry = (const kpk_abi_entry *)at(&pack->kernels, i);
    printf("entry %s\n", text(&entry->name));
    dump_kernel((const kpk_abi_kernel *)follow(&entry->kernel));
  }
}

#endif
