#!/bin/sh
# The quickstart, from kernel to launch. Needs kpack installed (`kpack` on the PATH) and a C++ compiler.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-build/quickstart}
mkdir -p "$out"
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }

say kpack build kernels/softmax.py --arch gfx90a --arch sm_90 -o "$out/libtk.a"
kpack build "$here/../../kernels/softmax.py" --arch gfx90a --arch sm_90 -o "$out/libtk.a"

say kpack ls "$out/libtk.a"
kpack ls "$out/libtk.a"

say "g++ main.cc \$(kpack config --cflags) -Wl,--whole-archive libtk.a -Wl,--no-whole-archive \$(kpack config --libs) -o quickstart"
# shellcheck disable=SC2046
${CXX:-g++} -O2 -Wall -Wextra "$here/main.cc" $(kpack config --cflags) \
  -Wl,--whole-archive "$out/libtk.a" -Wl,--no-whole-archive $(kpack config --libs) -o "$out/quickstart"

say ./quickstart
"$out/quickstart"
