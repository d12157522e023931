#!/bin/sh
# For `make gpu`: the examples' archives, of sm_90, into build/archives/examples/<example>/, by their own Makefiles; and
# the Rust program, since the machine with the GPU may have no rustc.
set -eu
cd "$(dirname "$0")/.."
out=$PWD/build/archives/examples work=$PWD/build/examples
rm -rf "$out" "$work" && mkdir -p "$out" "$work"
cp -r examples kernels "$work"
take() {  # EXAMPLE FILE: built, and kept under its name
  make -C "$work/examples/$1" ARCHS=sm_90 "$2"
  mkdir -p "$(dirname "$out/$1/$2")" && cp "$work/examples/$1/$2" "$out/$1/$2"
}
take c libvec.a
take plugin packs/host/libfx.a
take plugin packs/plugin/libfx.a
take migration libnorms.a
take torch_op libops.a
take onnxruntime libtk.a
if command -v rustc >/dev/null; then
  RUSTFLAGS='-C strip=symbols' take rust row_sum
else
  echo "examples/rust: no rustc here: make gpu will skip it"
fi
