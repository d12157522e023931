// kpack's C++ API: a Triton kernel that was linked in is called like a function.
//
//   #include <kpack/kpack.hpp>
//   KPACK_KERNEL(tk, softmax);                      // declares the linker symbol; nothing is generated
//   kpack::Status status = tk::softmax(stream, out, in, in_stride, out_stride, n_cols, n_rows);
//
// C++17. Header only above the C API (kpack.h); throws nothing, needs no RTTI, no CUDA and no HIP header.
// Everything is hidden and in a versioned namespace, so two libraries with two versions of kpack can live
// in one process.
#pragma once

#if __cplusplus < 201703L
#error "kpack/kpack.hpp needs C++17: compile with -std=c++17 or later"
#endif

#include <kpack/kpack.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

// The vendors' own stream types, as their headers declare them.
struct CUstream_st;
struct ihipStream_t;
#if !defined(__HIPCC__)
struct __half;
struct __nv_bfloat16;
#endif
namespace c10 {
struct Half;
struct BFloat16;
}  // namespace c10

// No symbol of this header, an inline function of it included, binds across shared objects.
#pragma GCC visibility push(hidden)
namespace kpack {
inline namespace v1 {

// ---- Types ------------------------------------------------------------------------------------------

// Element types, for kpack::ptr and for selected parameters that are types.
enum class DType : uint8_t {
  i1 = KPK_I1,
  i8 = KPK_I8,
  i16 = KPK_I16,
  i32 = KPK_I32,
  i64 = KPK_I64,
  u8 = KPK_U8,
  u16 = KPK_U16,
  u32 = KPK_U32,
  u64 = KPK_U64,
  fp16 = KPK_FP16,
  bf16 = KPK_BF16,
  fp32 = KPK_FP32,
  fp64 = KPK_FP64,
  fp8e4nv = KPK_FP8E4NV,
  fp8e5 = KPK_FP8E5,
  fp8e4b8 = KPK_FP8E4B8,
  fp8e5b16 = KPK_FP8E5B16,
  fp8e4b15 = KPK_FP8E4B15
};

// The element type of a C++ type. Specialise it for a half type of your own:
//   template <> struct kpack::type_of<MyHalf> : kpack::is_type<kpack::DType::fp16> {};
template <DType type>
struct is_type {
  static constexpr uint8_t value = static_cast<uint8_t>(type);
};
template <class T, class = void>
struct type_of {
  static constexpr uint8_t value = KPK_VOID;  // no element type: not an argument
};
template <>
struct type_of<bool> : is_type<DType::i1> {};
template <>
struct type_of<float> : is_type<DType::fp32> {};
template <>
struct type_of<double> : is_type<DType::fp64> {};
#if !defined(__HIPCC__)
template <>
struct type_of<__half> : is_type<DType::fp16> {};
template <>
struct type_of<__nv_bfloat16> : is_type<DType::bf16> {};
#endif
template <>
struct type_of<c10::Half> : is_type<DType::fp16> {};
template <>
struct type_of<c10::BFloat16> : is_type<DType::bf16> {};
#if defined(__FLT16_MAX__)
template <>
struct type_of<_Float16> : is_type<DType::fp16> {};
#endif

// char is text, not a number: say int8_t or uint8_t, or kpack::ptr.
template <class T>
struct type_of<T, std::enable_if_t<std::is_integral<T>::value && !std::is_same<T, char>::value &&
                                   !std::is_same<T, bool>::value && !std::is_same<T, wchar_t>::value &&
                                   sizeof(T) <= sizeof(int64_t)>> {
  static constexpr uint8_t log2_bytes = sizeof(T) == 8 ? 3 : sizeof(T) == 4 ? 2 : sizeof(T) == 2 ? 1 : 0;
  static constexpr uint8_t value =
      static_cast<uint8_t>((std::is_signed<T>::value ? KPK_I8 : KPK_U8) + log2_bytes);
};

// ---- Arguments --------------------------------------------------------------------------------------

// A device pointer whose element type only the program knows at run time.
class Pointer {
 public:
  constexpr Pointer(const void *address, DType type, bool is_const)
      : address_(address), type_(type), is_const_(is_const) {}
  kpk_arg arg() const {
    return {reinterpret_cast<uintptr_t>(address_),
            static_cast<uint8_t>(KPK_POINTER | static_cast<uint8_t>(type_)),
            static_cast<uint8_t>(is_const_ ? KPK_PARAM_CONST : 0), 0, 0};
  }

 private:
  const void *address_;
  DType type_;
  bool is_const_;
};
inline Pointer ptr(void *address, DType type) { return {address, type, false}; }
inline Pointer ptr(const void *address, DType type) { return {address, type, true}; }

namespace detail {

template <class T>
using bare = std::remove_cv_t<std::remove_reference_t<T>>;
template <class T>
using element = std::remove_cv_t<std::remove_pointer_t<bare<T>>>;

template <class T>
constexpr bool is_text =
    std::is_same<std::decay_t<T>, const char *>::value || std::is_same<std::decay_t<T>, char *>::value;

// The type code of an argument of type T; 0 where only the value knows it (kpack::Pointer).
template <class T>
constexpr uint8_t code() {
  using B = bare<T>;
  if constexpr (std::is_same<B, Pointer>::value) {
    return 0;
  } else if constexpr (std::is_same<B, std::nullptr_t>::value) {
    return KPK_POINTER;
  } else if constexpr (is_text<T>) {
    return KPK_STRING;
  } else if constexpr (std::is_same<B, DType>::value) {
    return KPK_DTYPE;
  } else if constexpr (std::is_enum<B>::value) {
    static_assert(type_of<std::underlying_type_t<B>>::value != KPK_VOID,
                  "kpack: an enum of this underlying type is no number: convert it");
    return type_of<std::underlying_type_t<B>>::value;
  } else if constexpr (std::is_pointer<B>::value) {
    static_assert(!std::is_void<element<T>>::value,
                  "kpack: a void* does not say its element type: pass kpack::ptr(p, kpack::DType::fp16)");
    static_assert(
        type_of<element<T>>::value != KPK_VOID,
        "kpack: no element type for this pointer: specialise kpack::type_of, or pass kpack::ptr(p, dtype)");
    return static_cast<uint8_t>(KPK_POINTER | type_of<element<T>>::value);
  } else {
    static_assert(type_of<B>::value != KPK_VOID,
                  "kpack: not a kernel argument: pass a pointer, a number, or specialise kpack::type_of");
    return type_of<B>::value;
  }
}

template <class T>
kpk_arg arg(const T &value) {
  constexpr uint8_t type = code<T>();
  if constexpr (std::is_same<T, Pointer>::value) {
    return value.arg();
  } else if constexpr (std::is_same<T, std::nullptr_t>::value) {
    return {0, type, 0, 0, 0};
  } else if constexpr (is_text<T>) {
    const char *text = value;
    return {reinterpret_cast<uintptr_t>(text), type, 0, 0, 0};
  } else if constexpr (std::is_pointer<T>::value) {
    constexpr uint8_t flags = std::is_const<std::remove_pointer_t<T>>::value ? KPK_PARAM_CONST : 0;
    return {reinterpret_cast<uintptr_t>(value), type, flags, 0, 0};
  } else if constexpr (type >= KPK_FP16 && type <= KPK_FP8E4B15) {
    const double wide =
        static_cast<double>(static_cast<std::conditional_t<type == KPK_FP64, double, float>>(value));
    kpk_arg out = {0, type, 0, 0, 0};
    std::memcpy(&out.bits, &wide, sizeof wide);
    return out;
  } else {
    return {static_cast<uint64_t>(value), type, 0, 0, 0};
  }
}

// kpk_signature() of the argument types, at compile time; 0 where it takes the values.
template <class... A>
constexpr uint64_t signature() {
  uint64_t hash = KPK_SIGNATURE_SEED;
  bool known = true;
  const uint8_t codes[] = {code<A>()..., 0};
  for (unsigned i = 0; i < sizeof...(A); ++i) {
    known = known && codes[i] != 0;
    hash = (hash ^ KPK_CLASS(codes[i])) * KPK_SIGNATURE_PRIME;
  }
  return known ? hash : 0;
}

}  // namespace detail

// ---- Results, streams, devices ------------------------------------------------------------------------

// What a call came to. True only for a launch that was made (or had nothing to do).
class Status {
 public:
  constexpr Status(kpk_status code = KPK_OK) : code_(code) {}
  constexpr explicit operator bool() const { return code_ == KPK_OK; }
  constexpr bool ok() const { return code_ == KPK_OK; }
  // The dry driver took the call: nothing ran. message() shows what would have.
  constexpr bool dry() const { return code_ == KPK_DRY; }
  constexpr kpk_status code() const { return code_; }
  const char *name() const { return kpk_status_name(code_); }
  // Of this thread's last failing or dry call: read it before the next one.
  const char *message() const { return code_ == KPK_OK ? "" : kpk_message(); }

 private:
  kpk_status code_;
};

// A stream that says whose it is. A bare nullptr is the default stream where one vendor has devices.
class Stream {
 public:
  constexpr Stream(std::nullptr_t) : native_{nullptr, KPK_VENDOR_ANY, 0} {}
  Stream(CUstream_st *stream) : native_{stream, KPK_VENDOR_CUDA, 0} {}
  Stream(ihipStream_t *stream) : native_{stream, KPK_VENDOR_HIP, 0} {}
  constexpr Stream(kpk_stream stream) : native_(stream) {}
  constexpr kpk_stream native() const { return native_; }

 private:
  kpk_stream native_;
};
inline Stream cuda_stream(void *handle) { return Stream(kpk_stream{handle, KPK_VENDOR_CUDA, 0}); }
inline Stream hip_stream(void *handle) { return Stream(kpk_stream{handle, KPK_VENDOR_HIP, 0}); }

inline kpk_device cuda_device(int ordinal) { return {KPK_VENDOR_CUDA, ordinal}; }
inline kpk_device hip_device(int ordinal) { return {KPK_VENDOR_HIP, ordinal}; }

// Everything but the driver call, for a device of `arch`; see kpk_use_dry_driver.
inline Status use_dry_driver(const char *arch = "", bool succeed = false) {
  return kpk_use_dry_driver(arch, succeed ? 1 : 0);
}
inline Status use_real_drivers() { return kpk_use_dry_driver(nullptr, 0); }

// ---- Kernels ------------------------------------------------------------------------------------------

// A kernel bound to a device: a launch asks the driver nothing. `status()` says whether the binding worked.
class Bound {
 public:
  Bound(const kpk_kernel &kernel, kpk_device device) : status_(kpk_bind(&kernel, device, &bound_)) {}
  Status status() const { return status_; }
  template <class... A>
  Status operator()(Stream stream, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_launch_bound(&bound_, stream.native(), args, sizeof...(A), detail::signature<A...>());
  }

 private:
  kpk_bound bound_ = {};
  kpk_status status_;
};

// A linked kernel.
class Kernel {
 public:
  constexpr explicit Kernel(const kpk_kernel &kernel) : kernel_(&kernel) {}
  const char *name() const { return kpk_kernel_name(kernel_); }
  const kpk_kernel &native() const { return *kernel_; }
  // "softmax(*{fp16,bf16,fp32} out_ptr, ...)": as kpk_kernel_prototype.
  size_t prototype(char *text, size_t bytes) const { return kpk_kernel_prototype(kernel_, text, bytes); }
  // Arguments in call order: run-time arguments as in the Triton source, selected constexprs, launch-only
  // parameters. See kpk_launch.
  template <class... A>
  Status operator()(Stream stream, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_launch(kernel_, stream.native(), args, sizeof...(A), detail::signature<A...>());
  }
  Bound bind(kpk_device device) const { return Bound(*kernel_, device); }

 private:
  const kpk_kernel *kernel_;
};

class Pack {
 public:
  constexpr explicit Pack(const kpk_pack &pack) : pack_(&pack) {}
  const char *name() const { return kpk_pack_name(pack_); }
  uint32_t size() const { return kpk_pack_size(pack_); }
  Kernel operator[](uint32_t index) const { return Kernel(*kpk_pack_kernel(pack_, index)); }
  // The address of the kernel's descriptor, or null.
  const kpk_kernel *find(const char *kernel) const { return kpk_pack_find(pack_, kernel); }

 private:
  const kpk_pack *pack_;
};

// ---- What is linked -----------------------------------------------------------------------------------

// All kernels of all packs that the linker brought into this executable or shared object with
// --whole-archive (or -u kpack_pack_<pack>). Packs that this runtime cannot read are passed over.
class LinkedKernels {
 public:
  class iterator {
   public:
    iterator(const kpk_abi_record *record, const kpk_abi_record *end) : record_(record), end_(end) {
      settle();
    }
    Kernel operator*() const { return Kernel(*kpk_pack_kernel(kpk_pack_of(record_), index_)); }
    iterator &operator++() {
      ++index_;
      settle();
      return *this;
    }
    bool operator!=(const iterator &other) const {
      return record_ != other.record_ || index_ != other.index_;
    }

   private:
    void settle() {
      for (; record_ != end_; ++record_, index_ = 0) {
        const kpk_pack *pack = kpk_pack_of(record_);
        if (pack != nullptr && index_ < kpk_pack_size(pack)) return;
      }
      index_ = 0;
    }
    const kpk_abi_record *record_;
    const kpk_abi_record *end_;
    uint32_t index_ = 0;
  };
  LinkedKernels(const kpk_abi_record *begin, const kpk_abi_record *end) : begin_(begin), end_(end) {}
  iterator begin() const { return {begin_, end_}; }
  iterator end() const { return {end_, end_}; }

 private:
  const kpk_abi_record *begin_;
  const kpk_abi_record *end_;
};

// In the caller's own object: the section's bounds are those of the executable or .so that holds the call.
inline LinkedKernels linked_kernels() { return {kpk_linked_begin(), kpk_linked_end()}; }

// The kernel of this name in pack `pack` (null: in any), or null.
inline const kpk_kernel *find(const char *pack, const char *kernel) {
  for (const kpk_abi_record *record = kpk_linked_begin(); record != kpk_linked_end(); ++record) {
    const kpk_pack *candidate = kpk_pack_of(record);
    if (candidate == nullptr || (pack != nullptr && std::strcmp(pack, kpk_pack_name(candidate)) != 0))
      continue;
    if (const kpk_kernel *found = kpk_pack_find(candidate, kernel)) return found;
  }
  return nullptr;
}

}  // namespace v1
}  // namespace kpack
#pragma GCC visibility pop

// Declares kernel `kernel` of pack `pack` as the callable `pack::kernel`. At global scope. A kernel that is
// not linked in is an undefined reference to kpack_kernel_<pack>_<kernel>. An empty object of internal
// linkage: no constructor, no relocation. Once a translation unit, as any definition.
#define KPACK_KERNEL(pack, kernel)                                                                  \
  extern "C" __attribute__((visibility("hidden"))) const kpk_kernel kpack_kernel_##pack##_##kernel; \
  namespace pack {                                                                                  \
  struct __attribute__((visibility("hidden"))) kpk_type_##kernel {                                  \
    static ::kpack::Kernel get() { return ::kpack::Kernel(kpack_kernel_##pack##_##kernel); }        \
    operator ::kpack::Kernel() const { return get(); }                                              \
    ::kpack::Bound bind(kpk_device device) const { return get().bind(device); }                     \
    template <class... A>                                                                           \
    ::kpack::Status operator()(::kpack::Stream stream, const A &...arguments) const {               \
      return get()(stream, arguments...);                                                           \
    }                                                                                               \
  };                                                                                                \
  [[maybe_unused]] static constexpr kpk_type_##kernel kernel{};                                     \
  }                                                                                                 \
  static_assert(true, "KPACK_KERNEL takes a semicolon")
