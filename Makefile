# Needs python3 (3.11 or later, with venv), g++ and make: the rest comes from PyPI into .venv.
VENV ?= .venv
TORCH ?= torch==2.13.0# what the tests compare with: a CPU build will do, say which if your index has several
TRITON ?= # or one version: triton==3.6.*
OLD_TRITON = triton==3.4.*
ARCHS ?= gfx90a gfx942 gfx1100 sm_80 sm_90
# Folders, for a file that is new: an editable install knows the files there were.
SOURCES := CMakeLists.txt pyproject.toml $(wildcard csrc/src/* csrc/src/tune/* csrc/python/* csrc/include/kpack/* csrc/cmake/*) \
  $(shell find kpack -type d ! -name __pycache__)
PIP = $(VENV)/bin/pip --quiet --disable-pip-version-check install
IN_VENV = PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
CPP = '*.h' '*.hpp' '*.cc'
SANITIZE_asan = address,undefined
SANITIZE_tsan = thread
TARGETS_tsan = --target test_race test_race_tuning
TYPE_release = Release
TARGETS_release = --target budget
TOOLCHAIN_aarch64 = -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/tests/aarch64.cmake
# The other host, where there is a compiler for it; KPACK_REQUIRE_TOOLS=1: there must be one.
CROSS := $(if $(or $(KPACK_REQUIRE_TOOLS),$(shell command -v aarch64-linux-gnu-g++)),aarch64)
test: $(VENV)/test.stamp cpp-asan cpp-tsan cpp-release $(CROSS:%=cpp-%)
	$(IN_VENV) ctest --test-dir build/asan --output-on-failure
	$(IN_VENV) ctest --test-dir build/tsan --output-on-failure --tests-regex race
	$(IN_VENV) ctest --test-dir build/release --output-on-failure --tests-regex budget
	$(if $(CROSS),$(IN_VENV) ctest --test-dir build/$(CROSS) --output-on-failure,@echo "aarch64: not tested, no aarch64-linux-gnu-g++")
	$(IN_VENV) pytest
check: $(VENV)/check.stamp
	$(IN_VENV) ruff check . && $(IN_VENV) ruff format --check . && $(IN_VENV) mypy
	git ls-files -co --exclude-standard $(CPP) | $(IN_VENV) xargs clang-format --dry-run -Werror
format: $(VENV)/check.stamp
	$(IN_VENV) ruff format . && git ls-files -co --exclude-standard $(CPP) | $(IN_VENV) xargs clang-format -i
docs: $(VENV)/docs.stamp # fails on a warning: a link that leads nowhere is one
	$(IN_VENV) sphinx-build --quiet --fail-on-warning --keep-going --nitpicky docs build/docs && echo build/docs/index.html
demo: $(VENV)/install.stamp
	$(IN_VENV) sh examples/quickstart/run.sh
archives: $(VENV)/install.stamp # what `make gpu` needs from a machine with a network: no GPU takes part
	mkdir -p build/archives && $(IN_VENV) kpack build kernels/ $(ARCHS:%=--arch %) -o build/archives/libtk.a
	$(IN_VENV) kpack build tests/cpp/kernels.py $(ARCHS:%=--arch %) -o build/archives/libtests.a
	for pack in ways planted; do $(IN_VENV) kpack build tests/gpu/$$pack --arch sm_90 -o build/archives/lib$$pack.a || exit; done
	$(IN_VENV) sh benchmarks/examples_archives.sh
	$(MAKE) old-archive || { rm -f build/archives/libold.a; echo "build/archives/libold.a: not built, see above: \
	  make gpu will skip what launches $(OLD_TRITON)'s code beside this one's"; }
old-archive: # softmax by the oldest Triton that kpack takes, to be linked beside the newest one's; its AMD half needs a linker
	$(MAKE) VENV=build/venv-old TRITON='$(OLD_TRITON)' build/venv-old/install.stamp
	build/venv-old/bin/kpack build kernels/softmax.py $(patsubst %,--arch %,$(filter sm_%,$(ARCHS))) -o build/archives/libold.a
gpu: # without pip, .venv and network: benchmarks/README.md
	benchmarks/run
clean:
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache
.PHONY: test check format docs demo archives old-archive gpu clean

# The build tools stay in .venv, so that installing again after a change compiles that change alone.
$(VENV)/install.stamp: $(SOURCES)
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(PIP) 'scikit-build-core>=0.11' 'pybind11>=2.13' cmake ninja
	$(PIP) --no-build-isolation --editable . $(TRITON) && touch $@
$(VENV)/%.stamp: $(VENV)/install.stamp
	$(PIP) --no-build-isolation --editable '.[$*]' $(TRITON) $(if $(filter test,$*),$(TORCH)) && touch $@
cpp-%: $(VENV)/install.stamp
	$(IN_VENV) cmake -S . -B build/$* -G Ninja -DCMAKE_BUILD_TYPE=$(or $(TYPE_$*),Debug) -DKPACK_PYTHON=OFF -DKPACK_TESTS=ON \
	  -DKPACK_STRICT=ON -DKPACK_SANITIZE=$(SANITIZE_$*) $(TOOLCHAIN_$*) && $(IN_VENV) cmake --build build/$* $(TARGETS_$*)
