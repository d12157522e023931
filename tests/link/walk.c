/* Every pack that is linked into this program. Weak and hidden: with no pack there are simply none. */
#include "dump.h"

#ifdef __cplusplus
extern "C" {
#endif
extern const kpk_abi_record __start_kpack_packs[] __attribute__((weak, visibility("hidden")));
extern const kpk_abi_record __stop_kpack_packs[] __attribute__((weak, visibility("hidden")));
#ifdef __cplusplus
}
#endif

int main(void) {
  for (const kpk_abi_record *record = __start_kpack_packs; record != __stop_kpack_packs; ++record)
    dump_record(record);
  return 0;
}
