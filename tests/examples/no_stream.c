/* For LD_PRELOAD: a torch without CUDA has no current stream of an accelerator. Here it has one, the default one, so
 * that the implementation for CUDA of examples/torch_op can be run on the fake driver, whose memory is the host's. */
#include <stddef.h>
#include <stdint.h>

typedef struct Stream { /* c10::Stream */
  int8_t device_type, device_index;
  int64_t id;
} Stream;

/* at::accelerator::getCurrentStream(c10::DeviceIndex) */
Stream _ZN2at11accelerator16getCurrentStreamEa(int8_t index) {
  const Stream stream = {1, index, 0};
  return stream;
}
/* c10::Stream::native_handle() const */
void *_ZNK3c106Stream13native_handleEv(const Stream *stream) {
  (void)stream;
  return NULL;
}
