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
#include <initializer_list>
#include <string>
#include <type_traits>

// What programs keep in classes of their own has default visibility, or g++ warns of it; so that no symbol comes of
// it all the same, its functions are always inlined, which calls of many arguments gain most by, or hidden.
#define KPACK_TYPE __attribute__((visibility("default")))
#define KPACK_INLINE __attribute__((always_inline))
#define KPACK_APART __attribute__((noinline, visibility("hidden")))

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
// gcc before 13 announces it on aarch64, where only its C has it.
#if defined(__FLT16_MAX__) && (defined(__clang__) || defined(__x86_64__) || __GNUC__ >= 13)
#define KPK_HAS_FLOAT16
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

namespace detail {

template <class A>
constexpr void no_array() {
  static_assert(!std::is_array<A>::value,
                "kpack: an array is memory of the program: pass a pointer to memory of the device");
}

// The element type of a tensor at a pointer.
template <class P>
constexpr uint8_t element_at() {
  constexpr uint8_t type = type_of<std::remove_cv_t<std::remove_pointer_t<std::decay_t<P>>>>::value;
  no_array<P>();
  static_assert(type != KPK_VOID || std::is_array<P>::value,
                "kpack: no element type for this pointer: pass kpack::ptr(p, dtype)");
  return type;
}
template <class P>
using IfPointer = std::enable_if_t<std::is_pointer<std::decay_t<P>>::value>;

}  // namespace detail

// A device pointer whose element type only the program knows at run time.
class KPACK_TYPE Pointer {
 public:
  KPACK_INLINE constexpr Pointer(const void *address, DType type, bool is_const)
      : address_(address), type_(type), is_const_(is_const) {}
  KPACK_INLINE kpk_arg arg() const {
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
// Does not compile: of an array that the device reads as well, say &array[0].
template <class T, size_t N>
Pointer ptr(T (&array)[N], DType type) {
  detail::no_array<T[N]>();
  return ptr(&array[0], type);
}

// A tensor in device memory, for a parameter that is a host tensor descriptor (see kpk_tensor):
//   kernel(stream, kpack::TensorDescriptor(out, {rows, columns}), kpack::TensorDescriptor(in, {rows, columns},
//                                                                                        {row_stride, 1}));
// Contiguous without strides. Read during the call; nothing is allocated, and the device's memory is not owned.
// What cannot be is the launch's to refuse: shape and strides of different lengths, more than 5 dimensions.
class KPACK_TYPE TensorDescriptor {
 public:
  using Sizes = std::initializer_list<int64_t>;

  // `data`: a pointer to elements.
  template <class P, class = detail::IfPointer<P>>
  KPACK_INLINE TensorDescriptor(const P &data, Sizes shape, Sizes strides = {})
      : TensorDescriptor(data, detail::element_at<P>()) {
    set(shape.begin(), shape.size(), strides.begin(), strides.size());
  }
  KPACK_INLINE TensorDescriptor(const Pointer &data, Sizes shape, Sizes strides = {})
      : TensorDescriptor(data) {
    set(shape.begin(), shape.size(), strides.begin(), strides.size());
  }
  // `rank` numbers each; `strides` null: contiguous.
  template <class P, class = detail::IfPointer<P>>
  KPACK_INLINE TensorDescriptor(const P &data, const int64_t *shape, size_t rank,
                                const int64_t *strides = nullptr)
      : TensorDescriptor(data, detail::element_at<P>()) {
    set(shape, rank, strides, strides == nullptr ? 0 : rank);
  }
  KPACK_INLINE TensorDescriptor(const Pointer &data, const int64_t *shape, size_t rank,
                                const int64_t *strides = nullptr)
      : TensorDescriptor(data) {
    set(shape, rank, strides, strides == nullptr ? 0 : rank);
  }

  // What is read outside the tensor is NaN instead of 0.
  KPACK_INLINE TensorDescriptor &pad_with_nan() { return set_flag(KPK_TENSOR_NAN_PADDING); }
  // fp32 is rounded to tf32 as it is read.
  KPACK_INLINE TensorDescriptor &round_to_tf32() { return set_flag(KPK_TENSOR_ROUND_TF32); }
  // Of a kernel that reads in im2col mode: the corners of the box of pixels, by spatial dimension, and how many
  // elements a step is, by dimension (without: 1).
  KPACK_INLINE TensorDescriptor &im2col(std::initializer_list<int32_t> lower_corner,
                                        std::initializer_list<int32_t> upper_corner,
                                        std::initializer_list<uint32_t> element_strides = {}) {
    copy(lower_corner, tensor_.lower_corner);
    copy(upper_corner, tensor_.upper_corner);
    copy(element_strides, tensor_.element_strides);
    return *this;
  }

  KPACK_INLINE const kpk_tensor &native() const { return tensor_; }
  KPACK_INLINE kpk_arg arg() const {
    return {reinterpret_cast<uintptr_t>(&tensor_), static_cast<uint8_t>(KPK_TENSORDESC | type_), flags_, 0,
            0};
  }

 private:
  static constexpr size_t kMostRank = sizeof(kpk_tensor::shape) / sizeof(int64_t);

  KPACK_INLINE explicit TensorDescriptor(const Pointer &data) {
    const kpk_arg pointer = data.arg();
    tensor_.address = pointer.bits;
    type_ = static_cast<uint8_t>(pointer.type & ~KPK_POINTER);
    flags_ = pointer.flags;
  }
  KPACK_INLINE TensorDescriptor(void *data, uint8_t type)
      : TensorDescriptor(Pointer(data, static_cast<DType>(type), false)) {}
  KPACK_INLINE TensorDescriptor(const void *data, uint8_t type)
      : TensorDescriptor(Pointer(data, static_cast<DType>(type), true)) {}

  KPACK_INLINE TensorDescriptor &set_flag(uint8_t flag) {
    tensor_.flags = static_cast<uint8_t>(tensor_.flags | flag);
    return *this;
  }
  template <class T, size_t N>
  KPACK_INLINE static void copy(std::initializer_list<T> from, T (&to)[N]) {
    size_t count = 0;
    for (const T value : from) {
      if (count < N) to[count++] = value;
    }
  }
  // Where a size or stride is missing it stays 0, and a stride that does not fit is -1: no tensor has these.
  KPACK_INLINE void set(const int64_t *shape, size_t rank, const int64_t *strides, size_t stride_count) {
    const size_t longer = rank > stride_count ? rank : stride_count;
    tensor_.rank = static_cast<uint8_t>(longer < UINT8_MAX ? longer : UINT8_MAX);
    for (size_t i = 0; i < rank && i < kMostRank; ++i) tensor_.shape[i] = shape[i];
    for (size_t i = 0; i < stride_count && i < kMostRank; ++i) tensor_.strides[i] = strides[i];
    if (stride_count != 0 || rank > kMostRank) return;
    int64_t stride = 1;
    for (size_t i = rank; i-- > 0;) {
      tensor_.strides[i] = stride;
      if (stride < 0 || __builtin_mul_overflow(stride, shape[i], &stride)) stride = -1;
    }
  }

  kpk_tensor tensor_ = {};
  uint8_t type_ = KPK_VOID;
  uint8_t flags_ = 0;
};

namespace detail {

template <class T>
using bare = std::remove_cv_t<std::remove_reference_t<T>>;
template <class T>
using element = std::remove_cv_t<std::remove_pointer_t<bare<T>>>;

template <class T>
constexpr bool is_text =
    std::is_same<std::decay_t<T>, const char *>::value || std::is_same<std::decay_t<T>, char *>::value;

// What is no argument of a kernel: one sentence that says why, and what to pass.
template <class B>
constexpr void refuse() {
  using To = std::remove_cv_t<std::remove_pointer_t<B>>;
  constexpr bool never = sizeof(const B *) == 0;
  if constexpr (std::is_array<B>::value) {
    no_array<B>();
  } else if constexpr (std::is_function<To>::value || std::is_member_pointer<B>::value) {
    static_assert(never,
                  "kpack: a function or member is no kernel argument: pass a device pointer or a number");
  } else if constexpr (std::is_pointer<B>::value && std::is_pointer<To>::value) {
    static_assert(never,
                  "kpack: a pointer to pointers has no element type: pass kpack::ptr(p, kpack::DType::i64)");
  } else if constexpr (std::is_void<To>::value) {
    static_assert(never,
                  "kpack: a void* does not say its element type: pass kpack::ptr(p, kpack::DType::fp16)");
  } else if constexpr (std::is_pointer<B>::value) {
    static_assert(
        never,
        "kpack: no element type for this pointer: specialise kpack::type_of, or pass kpack::ptr(p, dtype)");
  } else if constexpr (std::is_same<B, char>::value || std::is_same<B, wchar_t>::value) {
    static_assert(never, "kpack: a character is no number: convert it, to int8_t or uint8_t for example");
  } else if constexpr (std::is_arithmetic<B>::value) {
    static_assert(never, "kpack: no kernel has a number of this type: convert it, to double or int64_t");
  } else {
    static_assert(never,
                  "kpack: an object is no kernel argument: pass a device pointer, a number or text, or "
                  "specialise kpack::type_of");
  }
}

// The type code of an argument of type T; 0 where only the value knows it (kpack::Pointer, TensorDescriptor).
template <class T>
constexpr uint8_t code() {
  using B = bare<T>;
  if constexpr (std::is_same<B, Pointer>::value || std::is_same<B, TensorDescriptor>::value) {
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
  } else if constexpr (std::is_pointer<B>::value && type_of<element<T>>::value != KPK_VOID) {
    return static_cast<uint8_t>(KPK_POINTER | type_of<element<T>>::value);
  } else if constexpr (!std::is_pointer<B>::value && type_of<B>::value != KPK_VOID) {
    return type_of<B>::value;
  } else {
    refuse<B>();
    return KPK_VOID;
  }
}

template <class T>
kpk_arg arg(const T &value) {
  constexpr uint8_t type = code<T>();
  if constexpr (std::is_same<T, Pointer>::value || std::is_same<T, TensorDescriptor>::value) {
    return value.arg();  // of a descriptor: the address of `value`, which lives as long as the call
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
  } else if constexpr (type == KPK_VOID) {
    return {};  // refused
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

// The same, from the values where the types do not say it.
template <class... A>
uint64_t signature_of(const kpk_arg *args) {
  constexpr uint64_t known = signature<A...>();
  return known != 0 ? known : kpk_signature(args, sizeof...(A));
}

// ---- calls as one block: see kpk_packed

// What a number of type T is in memory: as its type code says, or something that only converting brings to it.
template <class T>
constexpr bool is_as_its_code(uint8_t type) {
  if constexpr (std::is_enum<T>::value) {
    return is_as_its_code<std::underlying_type_t<T>>(type);
  } else if constexpr (std::is_floating_point<T>::value) {
    return type == (sizeof(T) == 4 ? KPK_FP32 : sizeof(T) == 8 ? KPK_FP64 : KPK_VOID);
  } else if constexpr (std::is_same<T, bool>::value) {
    return type == KPK_I1;
  } else {
    constexpr int log2_bytes = sizeof(T) == 8 ? 3 : sizeof(T) == 4 ? 2 : sizeof(T) == 2 ? 1 : 0;
    return std::is_integral<T>::value && type == (std::is_signed<T>::value ? KPK_I8 : KPK_U8) + log2_bytes;
  }
}

// Bytes of an argument of type T in a block; 0 where it lies in none.
template <class T>
constexpr unsigned packed_bytes() {
  using B = bare<T>;
  constexpr uint8_t type = code<T>();
  if constexpr (std::is_pointer<B>::value && (type & KPK_POINTER) != 0) {
    return sizeof(void *);
  } else if constexpr (type == 0) {
    return 0;
  } else {
    return is_as_its_code<B>(type) ? sizeof(B) : 0;
  }
}

template <class... A>
constexpr bool is_packable() {
  return sizeof...(A) < 64 && ((packed_bytes<A>() != 0) && ...);
}

template <class... A>
struct PackedCall {
  static constexpr unsigned next(unsigned end, unsigned bytes) { return (end + bytes - 1) / bytes * bytes; }
  static constexpr unsigned bytes() {
    unsigned end = 0;
    ((end = next(end, packed_bytes<A>()) + packed_bytes<A>()), ...);
    return end;
  }
  static constexpr uint64_t types() {
    uint64_t hash = KPK_SIGNATURE_SEED;
    ((hash = (hash ^ code<A>()) * KPK_SIGNATURE_PRIME), ...);
    return hash | 1;
  }
  static constexpr uint64_t consts() {
    uint64_t mask = 0, bit = 1;
    ((mask |=
      std::is_pointer<bare<A>>::value && std::is_const<std::remove_pointer_t<bare<A>>>::value ? bit : 0,
      bit <<= 1),
     ...);
    return mask;
  }

  explicit PackedCall(const A &...arguments) : call{types(), 0, 0, consts(), 0, block} {
    [[maybe_unused]] unsigned end = 0, bit = 0;
    (put(arguments, &end, bit++), ...);
  }
  PackedCall(const PackedCall &) = delete;
  PackedCall &operator=(const PackedCall &) = delete;

  alignas(16) unsigned char block[bytes() + 40] = {};
  kpk_packed call;

 private:
  template <class T>
  KPACK_INLINE void put(const T &value, unsigned *end, unsigned bit) {
    constexpr unsigned size = packed_bytes<T>();
    const unsigned at = next(*end, size);
    *end = at + size;
    const bare<T> copy = value;  // which may be volatile
    std::memcpy(block + at, &copy, size);
    if constexpr (std::is_pointer<T>::value) {
      const auto address = reinterpret_cast<uintptr_t>(copy);
      call.odd_16 |= uint64_t{(address & 15) != 0} << bit;
      call.special |= uint64_t{address == 0} << bit;
      call.misaligned |= address & (element_size<T>() - 1);
    } else if constexpr (!std::is_floating_point<T>::value) {
      const auto bits = static_cast<uint64_t>(copy);
      call.odd_16 |= uint64_t{(bits & 15) != 0} << bit;
      call.special |= uint64_t{bits == 1} << bit;
    }
  }
  template <class T>
  static constexpr uintptr_t element_size() {
    constexpr uint8_t type = code<T>() & 127;
    return type == KPK_I64 || type == KPK_U64 || type == KPK_FP64                       ? 8
           : type == KPK_I32 || type == KPK_U32 || type == KPK_FP32                     ? 4
           : type == KPK_I16 || type == KPK_U16 || type == KPK_FP16 || type == KPK_BF16 ? 2
                                                                                        : 1;
  }
};

// kpk_packed::types of such a call; 0 where it lies in no block.
template <class... A>
constexpr uint64_t types_of() {
  if constexpr (is_packable<A...>()) {
    return PackedCall<A...>::types();
  } else {
    return 0;
  }
}

}  // namespace detail

// ---- Results, streams, devices ------------------------------------------------------------------------

// What a call came to. True only for a launch that was made (or had nothing to do).
class KPACK_TYPE Status {
 public:
  KPACK_INLINE constexpr Status(kpk_status code = KPK_OK) : code_(code) {}
  KPACK_INLINE constexpr explicit operator bool() const { return code_ == KPK_OK; }
  KPACK_INLINE constexpr bool ok() const { return code_ == KPK_OK; }
  // The dry driver took the call: nothing ran. message() shows what would have.
  KPACK_INLINE constexpr bool dry() const { return code_ == KPK_DRY; }
  KPACK_INLINE constexpr kpk_status code() const { return code_; }
  KPACK_INLINE const char *name() const { return kpk_status_name(code_); }
  // Of this thread's last failing or dry call: read it before the next one.
  KPACK_INLINE const char *message() const { return code_ == KPK_OK ? "" : kpk_message(); }

 private:
  kpk_status code_;
};

// A stream that says whose it is. A bare nullptr is the default stream where one vendor has devices.
class KPACK_TYPE Stream {
 public:
  KPACK_INLINE constexpr Stream(std::nullptr_t) : native_{nullptr, KPK_VENDOR_ANY, 0} {}
  KPACK_INLINE Stream(CUstream_st *stream) : native_{stream, KPK_VENDOR_CUDA, 0} {}
  KPACK_INLINE Stream(ihipStream_t *stream) : native_{stream, KPK_VENDOR_HIP, 0} {}
  KPACK_INLINE constexpr Stream(kpk_stream stream) : native_(stream) {}
  KPACK_INLINE constexpr kpk_stream native() const { return native_; }

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

// Keeps memory ready on the device for kernels that need some while they run; see kpk_reserve_scratch.
inline Status reserve_scratch(kpk_device device, uint64_t bytes) {
  return kpk_reserve_scratch(device, bytes);
}

// ---- Kernels ------------------------------------------------------------------------------------------

// A kernel bound to a device, or pinned to a variant on it: a launch asks the driver nothing. `status()` says
// whether the binding worked.
class KPACK_TYPE Bound {
 public:
  KPACK_INLINE Bound(const kpk_kernel &kernel, kpk_device device)
      : status_(kpk_bind(&kernel, device, &bound_)) {}
  // Pinned to the variant that this call would run: see kpk_bind_call.
  template <class... A>
  KPACK_INLINE static Bound pinned(const kpk_kernel &kernel, kpk_device device, const A &...arguments) {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    Bound made;
    made.status_ =
        kpk_bind_call(&kernel, device, args, sizeof...(A), detail::signature_of<A...>(args), &made.bound_);
    return made;
  }
  KPACK_INLINE Status status() const { return status_; }
  KPACK_INLINE const kpk_bound &native() const { return bound_; }
  template <class... A>
  KPACK_INLINE Status operator()(Stream stream, const A &...arguments) const {
    if constexpr (detail::is_packable<A...>()) {
      detail::PackedCall<A...> packed(arguments...);
      const kpk_status status = kpk_launch_bound_packed(&bound_, stream.native(), &packed.call);
      return status != KPK_UNPACK ? status : by_arguments(stream, arguments...);
    } else {
      return by_arguments(stream, arguments...);
    }
  }
  // Of a pinned handle: the driver's function and what is known of it, how much of it runs at once, and a launch
  // as data for a graph's node. See kpk_bound_function, kpk_bound_occupancy, kpk_bound_node.
  KPACK_INLINE Status function(kpk_function *out) const { return kpk_bound_function(&bound_, out); }
  KPACK_INLINE Status occupancy(int *blocks, int *clusters) const {
    return kpk_bound_occupancy(&bound_, blocks, clusters);
  }
  template <class... A>
  KPACK_INLINE Status node(void *params, size_t bytes, kpk_node *out, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_bound_node(&bound_, args, sizeof...(A), detail::signature_of<A...>(args), params, bytes, out);
  }

 private:
  KPACK_INLINE Bound() : status_(KPK_OK) {}
  template <class... A>
  KPACK_APART kpk_status by_arguments(Stream stream, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_launch_bound_args(&bound_, stream.native(), args, sizeof...(A),
                                 detail::signature_of<A...>(args), detail::types_of<A...>());
  }
  kpk_bound bound_ = {};
  Status status_;
};

// A linked kernel.
class KPACK_TYPE Kernel {
 public:
  KPACK_INLINE constexpr explicit Kernel(const kpk_kernel &kernel) : kernel_(&kernel) {}
  KPACK_INLINE const char *name() const { return kpk_kernel_name(kernel_); }
  KPACK_INLINE const kpk_kernel &native() const { return *kernel_; }
  // "softmax(*{fp16,bf16,fp32} out_ptr, ...)": as kpk_kernel_prototype.
  KPACK_INLINE size_t prototype(char *text, size_t bytes) const {
    return kpk_kernel_prototype(kernel_, text, bytes);
  }
  // Arguments in call order: run-time arguments as in the Triton source, selected constexprs, launch-only
  // parameters. See kpk_launch.
  template <class... A>
  KPACK_INLINE Status operator()(Stream stream, const A &...arguments) const {
    if constexpr (detail::is_packable<A...>()) {
      detail::PackedCall<A...> packed(arguments...);
      const kpk_status status = kpk_launch_packed(kernel_, stream.native(), &packed.call);
      return status != KPK_UNPACK ? status : by_arguments(stream, arguments...);
    } else {
      return by_arguments(stream, arguments...);
    }
  }
  KPACK_INLINE Bound bind(kpk_device device) const { return Bound(*kernel_, device); }
  // Loads now what a first launch would: variants whose name matches the shell pattern. See kpk_preload.
  KPACK_INLINE Status preload(kpk_device device, const char *pattern = nullptr) const {
    return kpk_preload(kernel_, device, pattern, nullptr);
  }
  // What was loaded goes; the next launch loads again. See kpk_unload.
  KPACK_INLINE Status unload() const { return kpk_unload(kernel_); }
  // Finds out which variant is the fastest for this call. See kpk_tune.
  template <class... A>
  KPACK_INLINE Status tune(Stream stream, const kpk_tune_options &options, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_tune(kernel_, stream.native(), args, sizeof...(A), &options);
  }
  template <class... A>
  KPACK_INLINE Bound pin(kpk_device device, const A &...arguments) const {
    return Bound::pinned(*kernel_, device, arguments...);
  }
  // What this call would run on the device, and why nothing else: lines for a person. See kpk_explain.
  template <class... A>
  KPACK_INLINE std::string explain(kpk_device device, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    std::string text(2048, '\0');
    for (;;) {
      const size_t length = kpk_explain(kernel_, device, args, sizeof...(A), &text[0], text.size());
      const bool fits = length < text.size();
      text.resize(fits ? length : length + 1);
      if (fits) return text;
    }
  }
  // Would this call run on the device? No message, nothing loaded. See kpk_supports.
  template <class... A>
  KPACK_INLINE bool supports(kpk_device device, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_supports(kernel_, device, args, sizeof...(A), detail::signature_of<A...>(args)) != 0;
  }

 private:
  template <class... A>
  KPACK_APART kpk_status by_arguments(Stream stream, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_launch_args(kernel_, stream.native(), args, sizeof...(A), detail::signature_of<A...>(args),
                           detail::types_of<A...>());
  }
  const kpk_kernel *kernel_;
};

// The same as functions: kpack::supports(tk::softmax, device, out, in, n).
template <class... A>
std::string explain(Kernel kernel, kpk_device device, const A &...arguments) {
  return kernel.explain(device, arguments...);
}
template <class... A>
bool supports(Kernel kernel, kpk_device device, const A &...arguments) {
  return kernel.supports(device, arguments...);
}

// Several kernels, and functions of the program's own, that do the same with the same arguments and are tuned as
// alternatives; without an entry in a table the first kernel runs. See kpk_op_create.
//
//   kpack::Op softmax("softmax", tk::softmax);
//   softmax.add(tk::softmax_online).add("cudnn", 1, by_cudnn, handle);
//   kpack::Status status = softmax(stream, out, in, in_stride, out_stride, n_cols, n_rows);
class KPACK_TYPE Op {
 public:
  KPACK_INLINE Op(const char *name, Kernel first) : status_(kpk_op_create(name, &first.native(), &op_)) {}
  KPACK_INLINE ~Op() { kpk_op_free(op_); }
  KPACK_INLINE Op(Op &&other) : op_(other.op_), status_(other.status_) { other.op_ = nullptr; }
  Op(const Op &) = delete;
  Op &operator=(const Op &) = delete;
  // The first thing that has failed since it was made, if any; its message is that of kpk_message() then.
  KPACK_INLINE Status status() const { return status_; }
  KPACK_INLINE kpk_op *native() const { return op_; }
  KPACK_INLINE Op &add(Kernel kernel) { return note(kpk_op_add_kernel(op_, &kernel.native())); }
  KPACK_INLINE Op &add(const char *name, uint64_t version, kpk_op_function function, void *user = nullptr) {
    return note(kpk_op_add_function(op_, name, version, function, user));
  }
  template <class... A>
  KPACK_INLINE Status operator()(Stream stream, const A &...arguments) const {
    if constexpr (detail::is_packable<A...>()) {
      detail::PackedCall<A...> packed(arguments...);
      const kpk_status status = kpk_op_launch_packed(op_, stream.native(), &packed.call);
      return status != KPK_UNPACK ? status : by_arguments(stream, arguments...);
    } else {
      return by_arguments(stream, arguments...);
    }
  }
  // See kpk_op_tune.
  template <class... A>
  KPACK_INLINE Status tune(Stream stream, const kpk_tune_options &options, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_op_tune(op_, stream.native(), args, sizeof...(A), &options);
  }

 private:
  KPACK_INLINE Op &note(kpk_status status) {
    if (status_) status_ = status;
    return *this;
  }
  template <class... A>
  KPACK_APART kpk_status by_arguments(Stream stream, const A &...arguments) const {
    const kpk_arg args[] = {detail::arg(arguments)..., kpk_arg{}};
    return kpk_op_launch(op_, stream.native(), args, sizeof...(A), detail::signature_of<A...>(args));
  }
  kpk_op *op_ = nullptr;
  Status status_;
};

class KPACK_TYPE Pack {
 public:
  KPACK_INLINE constexpr explicit Pack(const kpk_pack &pack) : pack_(&pack) {}
  KPACK_INLINE const char *name() const { return kpk_pack_name(pack_); }
  KPACK_INLINE uint32_t size() const { return kpk_pack_size(pack_); }
  KPACK_INLINE Kernel operator[](uint32_t index) const { return Kernel(*kpk_pack_kernel(pack_, index)); }
  // The address of the kernel's descriptor, or null.
  KPACK_INLINE const kpk_kernel *find(const char *kernel) const { return kpk_pack_find(pack_, kernel); }
  // The pattern is matched with "softmax.fp16.BLOCK1024.w4.a16". See kpk_preload_pack.
  KPACK_INLINE Status preload(kpk_device device, const char *pattern = nullptr) const {
    return kpk_preload_pack(pack_, device, pattern, nullptr);
  }
  KPACK_INLINE Status unload() const { return kpk_unload_pack(pack_); }

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

// Loads now what first launches would, of all packs in the executable or shared object that holds this call: variants
// whose name ("softmax.fp16.BLOCK1024.w4.a16") matches the shell pattern. Before a capture, or where a first launch
// must not wait.
inline Status preload(kpk_device device, const char *pattern = nullptr) {
  for (const kpk_abi_record *record = kpk_linked_begin(); record != kpk_linked_end(); ++record) {
    const kpk_pack *pack = kpk_pack_of(record);
    if (pack == nullptr) continue;
    if (const kpk_status status = kpk_preload_pack(pack, device, pattern, nullptr)) return status;
  }
  return KPK_OK;
}

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
    ::kpack::Status preload(kpk_device device, const char *pattern = nullptr) const {               \
      return get().preload(device, pattern);                                                        \
    }                                                                                               \
    template <class... A>                                                                           \
    ::kpack::Bound pin(kpk_device device, const A &...arguments) const {                            \
      return get().pin(device, arguments...);                                                       \
    }                                                                                               \
    template <class... A>                                                                           \
    ::std::string explain(kpk_device device, const A &...arguments) const {                         \
      return get().explain(device, arguments...);                                                   \
    }                                                                                               \
    template <class... A>                                                                           \
    bool supports(kpk_device device, const A &...arguments) const {                                 \
      return get().supports(device, arguments...);                                                  \
    }                                                                                               \
    template <class... A>                                                                           \
    KPACK_INLINE ::kpack::Status operator()(::kpack::Stream stream, const A &...arguments) const {  \
      return get()(stream, arguments...);                                                           \
    }                                                                                               \
  };                                                                                                \
  [[maybe_unused]] static constexpr kpk_type_##kernel kernel{};                                     \
  }                                                                                                 \
  static_assert(true, "KPACK_KERNEL takes a semicolon")
