/* Prints the baked tuning table of a kernel that it names (-DKERNEL=...), or of all that are linked. */
#include <inttypes.h>
#include <kpack/kpack.h>
#include <stdio.h>

static void dump(const kpk_abi_kernel *kernel) {
  const kpk_abi_tuning *tuning =
      kernel->tuning ? (const kpk_abi_tuning *)((const char *)&kernel->tuning + kernel->tuning) : 0;
  printf("%s", (const char *)&kernel->name + kernel->name);
  if (tuning == 0) {
    printf(": none\n");
    return;
  }
  printf(": %" PRIu32 " %u.%u %016" PRIx64, tuning->size, tuning->major, tuning->minor, tuning->kernel_hash);
  for (uint32_t i = 0; i < tuning->entries.count; ++i) {
    const char *first = (const char *)&tuning->entries.data + tuning->entries.data;
    const kpk_abi_tuned *entry = (const kpk_abi_tuned *)(first + (size_t)i * tuning->entries.stride);
    printf(" %016" PRIx64 "=%016" PRIx64, entry->key, entry->variant);
  }
  printf("\n");
}

#ifdef KERNEL
extern const kpk_abi_kernel KERNEL __attribute__((visibility("hidden")));
void dump_all(void);
__attribute__((visibility("default"))) void dump_all(void) { dump(&KERNEL); }
#else
__attribute__((visibility("default"))) void dump_all(void) {
  for (const kpk_abi_record *record = kpk_linked_begin(); record != kpk_linked_end(); ++record) {
    const kpk_abi_pack *pack = (const kpk_abi_pack *)((const char *)&record->pack + record->pack);
    for (uint32_t i = 0; i < pack->kernels.count; ++i) {
      const char *first = (const char *)&pack->kernels.data + pack->kernels.data;
      const kpk_abi_entry *entry = (const kpk_abi_entry *)(first + (size_t)i * pack->kernels.stride);
      dump((const kpk_abi_kernel *)((const char *)&entry->kernel + entry->kernel));
    }
  }
}
#endif

int main(void) {
  dump_all();
  return 0;
}
