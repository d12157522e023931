// A mutex that needs no C++ run-time library, so that a program in C can link the runtime.
#pragma once

#include <pthread.h>

namespace kpk {

struct Mutex {
  pthread_mutex_t native = PTHREAD_MUTEX_INITIALIZER;
};

class Lock {
 public:
  explicit Lock(Mutex &mutex) : mutex_(mutex) { pthread_mutex_lock(&mutex_.native); }
  ~Lock() { pthread_mutex_unlock(&mutex_.native); }
  Lock(const Lock &) = delete;
  Lock &operator=(const Lock &) = delete;

 private:
  Mutex &mutex_;
};

}  // namespace kpk
