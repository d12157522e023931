#include "explain.h"

#include <cstring>

#include "describe.h"
#include "driver.h"
#include "expr.h"
#include "message.h"
#include "select.h"
#include "tensor.h"
#include "tune/tuning.h"

namespace kpk {
namespace {

// ---- Asking

// No variant may run the call: the first sentence of what its launch would say.
kpk_status refuse_variant(const DeviceState &device) {
  const KernelView &view = device.kernel->view;
  uint32_t with_image = 0;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) with_image += device.overloads[k]->count;
  Text why = message();
  with_image == 0 ? add_no_image_sentence(view, *device.device, &why)
                  : add_no_variant(view, *device.device, &why);
  return with_image == 0 ? KPK_ERROR_NO_IMAGE : KPK_ERROR_NO_VARIANT;
}

kpk_status find_choices(const DeviceState &device, const kpk_arg *args, uint32_t count, uint64_t signature,
                        const Choices **out) {
  const KernelState &kernel = *device.kernel;
  uint32_t index = kernel.overload.load(std::memory_order_relaxed);
  if (signature == 0 && count == kernel.view.params.size()) signature = kpk_signature(args, count);
  if (const kpk_status status = find_overload(kernel.view, args, count, signature, &index)) return status;
  *out = device.overloads[index];
  return KPK_OK;
}

// Would `image` be taken, as far as can be said without loading it?
kpk_status check_image(const Answer &answer, uint32_t image, Plan *out) {
  const KernelView &view = answer.kernel->view;
  const Device &device = *answer.device->device;
  *out = {};
  if (const kpk_status status = prepare(view, answer.candidate->variant, image, device, nullptr, out))
    return status;
  if (device.driver->accepts == nullptr) return KPK_OK;
  return device.driver->accepts({&view, &device, out->image, out, 0});
}

// The image that would be loaded: the nearest one that is not refused.
kpk_status find_image(Answer *answer) {
  const KernelView &view = answer->kernel->view;
  const Device &device = *answer->device->device;
  const kpk_abi_variant &variant = view.variants[answer->candidate->variant];
  uint32_t image = answer->candidate->image;
  for (uint32_t tried = 1;; ++tried) {
    const kpk_status status = check_image(*answer, image, &answer->plan);
    if (status != KPK_ERROR_NO_IMAGE && status != KPK_ERROR_LIMIT) return status;
    answer->plan = {};
    image = next_image(view, variant, device, image);
    if (image != kNoImage) continue;
    if (tried == 1) return status;
    return fail(status, "%s: no image of variant %s can be loaded on %s", view.name(), text(variant.name),
                device.arch);
  }
}

kpk_status check_tensors(const Answer &answer) {
  LaunchRequest request = {};
  request.plan = &answer.plan;
  request.args = answer.call.args;
  return fill_tensors(request);
}

kpk_status ask_device(DeviceState &device, const kpk_arg *args, uint32_t count, uint64_t signature,
                      Answer *out) {
  const KernelView &view = device.kernel->view;
  const Choices *choices = nullptr;
  if (const kpk_status status = find_choices(device, args, count, signature, &choices)) return status;
  const kpk_abi_overload &overload = *choices->overload;
  out->call = {args, count, 0, 0, 0};
  if (const kpk_status status =
          check_arguments(view, overload, choices->checks, choices->ones_and_nulls, &out->call)) {
    return status;
  }
  out->choices = choices;
  out->tuned.call = out->call;
  out->tuned.device = &device;
  out->tuned.choices = choices;
  out->candidate = pick_tuned(device, &out->tuned) ? out->tuned.candidate : select(view, *choices, out->call);
  if (out->candidate == nullptr) return refuse_variant(device);
  if (const kpk_status status = find_image(out)) return status;
  if (const kpk_status status = fill_grid(out->plan, out->call, out->grid, &out->empty)) return status;
  return out->plan.tensors && !out->empty ? check_tensors(*out) : KPK_OK;
}

// ---- Explaining

// What makes an image for `target` run on the device, or not.
void add_reach(const kpk_abi_target &target, const Device &device, Text *out) {
  const int far = distance(target, device);
  const bool cuda = target.vendor == KPK_VENDOR_CUDA;
  if (target.vendor != device.vendor) return out->add("of another vendor");
  const bool family = target.reach == KPK_REACH_FAMILY;
  if (far >= 0 && target.kind == KPK_IMAGE_PTX) return out->add("PTX, which the driver compiles");
  if (far >= 0 && (cuda ? target.arch == device.capability : !family)) {
    return out->add(!cuda && far < 2 ? "exact, with features" : "exact");
  }
  if (far >= 0) return out->add(family ? "same family" : "same major version");
  if (!cuda) {
    const size_t length = std::strcspn(device.arch, ":");
    const char *processor = text(target.processor);
    const bool same = std::strlen(processor) == length && std::strncmp(processor, device.arch, length) == 0;
    return out->add(same ? "for other features of the processor" : "for another processor");
  }
  if (target.arch > device.capability) return out->add("for newer devices");
  out->add(target.reach == KPK_REACH_EXACT ? "for no other device" : "for another major version");
}

// The image that would be loaded, or null where the device takes none.
const kpk_abi_image *image_of(const Answer &answer) { return answer.plan.image; }

void add_other_image(const Answer &answer, uint32_t index, Text *out) {
  const KernelView &view = answer.kernel->view;
  const Device &device = *answer.device->device;
  const char *symbol = text(view.images[index].symbol);
  out->add("\n  %s: ", symbol);
  const kpk_abi_target &target = view.target(view.images[index]);
  if (distance(target, device) < 0) return add_reach(target, device, out);
  Plan plan;
  if (check_image(answer, index, &plan) == KPK_OK) {
    const kpk_abi_image *chosen = image_of(answer);
    return chosen == nullptr ? out->add("would fit")
                             : out->add("%s is nearer", text(view.target(*chosen).name));
  }
  const char *why = kpk_message();
  const size_t length = std::strlen(symbol);
  out->add("%s", std::strncmp(why, symbol, length) == 0 && why[length] == ':' ? why + length + 2 : why);
}

void add_other_images(const Answer &answer, Text *out) {
  const KernelView &view = answer.kernel->view;
  const kpk_abi_variant &variant = view.variants[answer.candidate->variant];
  const kpk_abi_image *chosen = image_of(answer);
  if (variant.image_count < (chosen == nullptr ? 1 : 2)) return;
  out->add("\n%simages of %s:", chosen == nullptr ? "" : "other ", text(variant.name));
  for (uint32_t i = variant.first_image; i < variant.first_image + variant.image_count; ++i) {
    if (&view.images[i] != chosen) add_other_image(answer, i, out);
  }
}

// Where the device has no image at all: what there is, and why it is not for it.
void add_targets_and_reach(const KernelView &view, const Device &device, Text *out) {
  for (uint32_t i = 0; i < view.targets.size(); ++i) {
    if (!has_image(view, i)) continue;
    out->add("\n  %s: ", text(view.targets[i].name));
    add_reach(view.targets[i], device, out);
  }
}

void add_variant(const Answer &answer, uint32_t index, Text *out) {
  const KernelView &view = answer.kernel->view;
  const kpk_abi_variant &variant = view.variants[index];
  const uint32_t image = best_image(view, variant, *answer.device->device);
  ExprError error;
  const Verdict verdict = judge(view, *answer.choices->overload, variant, image, answer.call, &error);
  out->add("\n  %s: ", text(variant.name));
  if (verdict == Verdict::kNotBuilt) return out->add("no image for %s", answer.device->device->arch);
  add_reason(view, variant, verdict, error, answer.call, out);
  if (verdict != Verdict::kEligible || answer.candidate == nullptr) return;
  if (answer.tuned.by_key) return out->add(", but tuning found another");
  const bool preferred = variant.prefer != 0 || view.variants[answer.candidate->variant].prefer != 0;
  out->add(preferred ? ", but preferred less" : ", but after the chosen one");
}

void add_variants(const Answer &answer, Text *out) {
  const kpk_abi_overload &overload = *answer.choices->overload;
  const bool chosen = answer.candidate != nullptr;
  if (chosen && overload.variant_count < 2) return;
  out->add(chosen ? "\nother variants of " : "\nvariants of ");
  add_overload(answer.kernel->view, overload, out);
  out->add(":");
  for (uint32_t i = 0; i < overload.variant_count; ++i) {
    const uint32_t index = overload.first_variant + i;
    if (!chosen || index != answer.candidate->variant) add_variant(answer, index, out);
  }
}

// What was asked for, would be for this device, and did not compile.
void add_holes(const KernelView &view, const Device &device, Text *out) {
  const Table<kpk_abi_hole> holes(view.kernel->holes);
  bool first = true;
  for (uint32_t i = 0; i < holes.size(); ++i) {
    if (distance(view.targets[holes[i].target], device) < 0) continue;
    if (first) out->add("\nasked for, but not compiled:");
    first = false;
    add_hole(view, i, device, out);
  }
}

void add_chosen(const Answer &answer, Text *out) {
  const KernelView &view = answer.kernel->view;
  const kpk_abi_image *image = image_of(answer);
  out->add("%s", text(view.variants[answer.candidate->variant].name));
  if (image == nullptr) return;
  out->add(", image %s (", text(image->symbol));
  add_reach(view.target(*image), *answer.device->device, out);
  out->add(")");
}

void add_decision(const Answer &answer, Text *out) {
  const Plan &plan = answer.plan;
  const uint32_t *grid = answer.grid;
  out->add("%s on %s: ", answer.kernel->view.name(), answer.device->device->arch);
  out->add(answer.empty ? "launches nothing, for the grid is empty, of " : "runs ");
  add_chosen(answer, out);
  out->add(", grid %u x %u x %u, block %u, shared %u bytes", grid[0], grid[1], grid[2], plan.block,
           plan.shared_bytes + plan.image->static_shared_bytes);
  if (answer.tuned.tuning == nullptr) return;
  out->add("\n");
  add_tuned_text(answer.tuned, out);
}

void add_refusal(const Answer &answer, Text *out) {
  out->add("%s", kpk_message());
  if (answer.candidate == nullptr) return;
  out->add("\nchosen was ");
  add_chosen(answer, out);
}

void add_answer(kpk_status status, const Answer &answer, Text *out) {
  status == KPK_OK ? add_decision(answer, out) : add_refusal(answer, out);
  if (answer.choices == nullptr) return;
  const KernelView &view = answer.kernel->view;
  const Device &device = *answer.device->device;
  out->add("\ncalled with ");
  add_call(view, answer.call.args, out);
  if (answer.candidate == nullptr && status == KPK_ERROR_NO_IMAGE) {
    add_targets_and_reach(view, device, out);
  } else {
    add_variants(answer, out);
    if (answer.candidate != nullptr) add_other_images(answer, out);
  }
  add_holes(view, device, out);
}

kpk_status find_place(const KernelView &view, const Where &where, const Device **out) {
  if (where.arch == nullptr) return find_device(view, "explain", where.device, out);
  *out = dry_device_of(view, where.arch);
  if (*out != nullptr) return KPK_OK;
  return fail(KPK_ERROR_NO_DEVICE, "%s: explain: expected an arch such as sm_90 or gfx90a, got '%s'",
              view.name(), where.arch);
}

}  // namespace

kpk_status ask(const kpk_kernel *kernel, const Where &where, const kpk_arg *args, uint32_t count,
               uint64_t signature, Answer *out) {
  static const kpk_arg none = {};
  if (kernel == nullptr) return fail(KPK_ERROR_ARGUMENT, "kpk_explain: expected a kernel, got null");
  if (args == nullptr && count != 0) {
    return fail(KPK_ERROR_ARGUMENT, "kpk_explain: expected arguments, got null");
  }
  KernelState *state = nullptr;
  if (const kpk_status status = kernel_state(*kernel, &state)) return status;
  const Device *on = nullptr;
  if (const kpk_status status = find_place(state->view, where, &on)) return status;
  DeviceState *device = nullptr;
  if (const kpk_status status = device_state(*state, *on, &device)) return status;
  out->kernel = state;
  out->device = device;
  return ask_device(*device, count == 0 ? &none : args, count, signature, out);
}

size_t explain(const kpk_kernel *kernel, const Where &where, const kpk_arg *args, uint32_t count, char *text,
               size_t bytes) {
  const KeepMessage message;
  Answer answer = {};
  const kpk_status status = ask(kernel, where, args, count, 0, &answer);
  Text out(text, bytes);
  add_answer(status, answer, &out);
  return out.length();
}

bool supports(const kpk_kernel *kernel, const Where &where, const kpk_arg *args, uint32_t count,
              uint64_t signature) {
  const Quiet quiet;
  Answer answer = {};
  return ask(kernel, where, args, count, signature, &answer) == KPK_OK;
}

}  // namespace kpk

extern "C" {

size_t kpk_explain(const kpk_kernel *kernel, kpk_device device, const kpk_arg *args, uint32_t count,
                   char *text, size_t bytes) {
  return kpk::explain(kernel, {device, nullptr}, args, count, text, bytes);
}

int kpk_supports(const kpk_kernel *kernel, kpk_device device, const kpk_arg *args, uint32_t count,
                 uint64_t signature) {
  return kpk::supports(kernel, {device, nullptr}, args, count, signature) ? 1 : 0;
}

}  // extern "C"
