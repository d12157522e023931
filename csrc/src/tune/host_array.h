// Host memory that a search asks for, zeroed, and gives back: without exceptions and the C++ run-time library.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace kpk {

template <class T>
class HostArray {
 public:
  HostArray() = default;
  ~HostArray() { std::free(data_); }
  HostArray(const HostArray &) = delete;
  HostArray &operator=(const HostArray &) = delete;

  // False if there is no memory. What was there before is gone.
  bool allocate(uint64_t count) {
    std::free(data_);
    count_ = count;
    data_ = static_cast<T *>(std::calloc(count == 0 ? 1 : count, sizeof(T)));
    return data_ != nullptr;
  }
  // Becomes the owner of what `other` has, which is empty then.
  void take(HostArray &other) {
    std::free(data_);
    data_ = other.data_;
    count_ = other.count_;
    other.data_ = nullptr;
    other.count_ = 0;
  }
  uint64_t size() const { return count_; }
  T *data() { return data_; }
  const T *data() const { return data_; }
  T &operator[](uint64_t i) { return data_[i]; }
  const T &operator[](uint64_t i) const { return data_[i]; }
  T *begin() { return data_; }
  T *end() { return data_ + count_; }
  const T *begin() const { return data_; }
  const T *end() const { return data_ + count_; }

 private:
  T *data_ = nullptr;
  uint64_t count_ = 0;
};

}  // namespace kpk
