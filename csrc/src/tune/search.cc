#include "tune/search.h"

#include "message.h"
#include "tune/contest.h"

namespace kpk {
namespace {

// With the device current, and allowed to wait.
kpk_status search_here(const SearchRequest &request, Trials &trials) {
  bool capturing = false;
  const Bench &bench = *request.device->driver->bench;
  if (const kpk_status status = bench.capturing(request.stream, request.subject, &capturing)) return status;
  if (capturing) {
    return fail(
        KPK_ERROR_STREAM,
        "%s: tuning: expected a stream that is not capturing, since it has to wait, got one that is: tune "
        "before the capture begins",
        request.subject);
  }
  Contest contest(request, trials);
  return contest.run();
}

kpk_status search_on(const SearchRequest &request, Trials &trials) {
  const Bench *bench = request.device->driver->bench;
  if (bench == nullptr) {
    return fail(KPK_ERROR_UNSUPPORTED, "%s: tuning: the %s driver measures nothing", request.subject,
                request.device->driver->name);
  }
  Bench::Before before;
  if (const kpk_status status = bench->enter(*request.device, request.context, request.subject, &before)) {
    return status;
  }
  const kpk_status status = search_here(request, trials);
  bench->leave(before);
  return status;
}

}  // namespace

kpk_status search(const SearchRequest &request, SearchResult *out) {
  *out = {0, 0, 0};
  Trials trials;
  if (!trials.allocate(request.contender_count)) {
    return fail(KPK_ERROR_MEMORY, "%s: tuning: no host memory", request.subject);
  }
  const kpk_status status = search_on(request, trials);
  const uint32_t best = status == KPK_OK ? trials.fastest() : Trials::kNone;
  if (best != Trials::kNone) {
    const Trial &fixed = trials[0];
    const bool good = fixed.state == Trial::kRunning || fixed.state == Trial::kPruned;
    *out = {best, trials[best].known_us(), good ? fixed.known_us() : 0};
  }
  const KeepMessage kept;
  report(request, trials, best);
  return status;
}

}  // namespace kpk
