// The descriptors in memory, as C++: references followed, tables indexed by their own stride.
#pragma once

#include <kpack/abi.h>

#include <cstdint>
#include <cstring>

namespace kpk {

template <class T>
const T *follow(const kpk_ref &ref) {
  return ref == 0
             ? nullptr
             : reinterpret_cast<const T *>(reinterpret_cast<intptr_t>(&ref) + static_cast<intptr_t>(ref));
}

inline const char *text(const kpk_ref &ref) {
  const char *found = follow<char>(ref);
  return found == nullptr ? "" : found;
}

// A kpk_table whose reference has been followed.
template <class T>
class Table {
 public:
  Table() = default;
  explicit Table(const kpk_table &table)
      : data_(follow<char>(table.data)), count_(table.count), stride_(table.stride) {}
  uint32_t size() const { return count_; }
  const T &operator[](uint32_t i) const {
    return *reinterpret_cast<const T *>(data_ + static_cast<size_t>(i) * stride_);
  }

 private:
  const char *data_ = nullptr;
  uint32_t count_ = 0;
  uint32_t stride_ = 0;
};

struct KernelView {
  const kpk_abi_kernel *kernel = nullptr;
  Table<kpk_abi_param> params;
  Table<kpk_abi_overload> overloads;
  Table<kpk_abi_variant> variants;
  Table<kpk_abi_image> images;
  Table<kpk_abi_target> targets;
  Table<kpk_abi_constexpr> constexprs;
  const uint8_t *exprs = nullptr;

  KernelView() = default;
  explicit KernelView(const kpk_abi_kernel &k)
      : kernel(&k),
        params(k.params),
        overloads(k.overloads),
        variants(k.variants),
        images(k.images),
        targets(k.targets),
        constexprs(k.constexprs),
        exprs(follow<uint8_t>(k.exprs)) {}

  const char *name() const { return text(kernel->name); }
  const uint8_t *types(const kpk_abi_overload &overload) const { return follow<uint8_t>(overload.types); }
  const kpk_abi_target &target(const kpk_abi_image &image) const { return targets[image.target]; }
};

}  // namespace kpk
