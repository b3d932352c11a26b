#!/usr/bin/env bash
# Coverage-guided fuzzing of one target on the stable toolchain:
#   fuzz/cover.sh TARGET [SECONDS] [libFuzzer options…]
# Inputs that reach new code go into fuzz/found/TARGET, inputs that fail into fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?name a target: cargo run --release -- list}
seconds=${2:-600}
shift $(($# < 2 ? $# : 2))
mkdir -p "found/$target" "artifacts/$target" "corpus/$target"
cargo run --release -- seeds "$target" "found/$target"
export FUZZ_TARGET=$target
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With an explicit --target, these flags do not apply to build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --features cover --bin cover --target-dir target/cover --target "$host"
exec "./target/cover/$host/release/cover" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 \
    -artifact_prefix="artifacts/$target/" "$@" "found/$target" "corpus/$target"
