#!/bin/sh
# The quickstart, from kernel to launch. Needs kpack installed (`kpack` on the PATH) and a C++ compiler.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-build/quickstart}
mkdir -p "$out"
bold= plain=
[ -t 1 ] && bold=$(printf '\033[1m') plain=$(printf '\033[0m')
say() { printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"; }

say kpack build kernels/softmax.py --arch gfx90a --arch sm_90 -o "$out/libtk.a"
kpack build "$here/../../kernels/softmax.py" --arch gfx90a --arch sm_90 -o "$out/libtk.a"

say kpack ls --summary "$out/libtk.a"
kpack ls --summary "$out/libtk.a"

say "g++ main.cc \$(kpack config --cflags) -Wl,--whole-archive libtk.a -Wl,--no-whole-archive \$(kpack config --libs) -o quickstart"
# shellcheck disable=SC2046
${CXX:-g++} -O2 -Wall -Wextra "$here/main.cc" $(kpack config --cflags) \
  -Wl,--whole-archive "$out/libtk.a" -Wl,--no-whole-archive $(kpack config --libs) -o "$out/quickstart"

say ./quickstart
"$out/quickstart"
