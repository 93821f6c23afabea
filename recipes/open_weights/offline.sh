#!/bin/sh
# The recipe on a machine without a network, in one command that ends in time: unpacks, renders beside the training,
# trains, and leaves the weights in pieces. At the repository's root:
#
#     sh recipes/open_weights/offline.sh OUT sources.tar [more.tar ...]
#
# sources.tar is what `pack` wrote. What else is handed over is unpacked at / as well: wheels into /tmp/wheels, recorded
# songs (folders as `build` writes them) into $WORK/corpus. OUT gets logs, the scores of every validation, and
# weights.tar.aa, .ab, ...: `cat OUT/weights.tar.* | tar x` gives what `calibrate` and `export --run` read.
set -eu
[ $# -ge 2 ] || { echo "usage: offline.sh OUT sources.tar [more.tar ...]" >&2; exit 2; }
began=$(date +%s)
out=$1
shift
: "${WORK:=/tmp/open_weights}" "${PYTHON:=python3}" "${PIECE:=15M}"
: "${MINUTES:=9}"            # from start to end
: "${WORKERS:=14}"           # that render
: "${SONGS:=3000}"           # rendered at most
: "${FIRST:=64}"             # songs that training waits for; every thirtieth validates
: "${HOURS:=4}"              # of sound that the device makes room for
: "${SEED:=0}"               # of the corpus
: "${DTYPE:=float16}"        # of the weights that it leaves
: "${TRAIN:=--hidden-size 352 --batch-size 64 --bf16 --learning-rate 2e-3 --ema 0.998 --epoch 1000}"
mkdir -p "$out" "$WORK/corpus" "$WORK/cache" "$WORK/site"
for archive; do tar xf "$archive" -C "${ROOT:-/}"; done
[ ! -d /tmp/wheels ] || "$PYTHON" -m pip install -q --no-index --no-deps --target "$WORK/site" /tmp/wheels/*.whl
export PYTHONPATH="$PWD:$WORK/site${PYTHONPATH:+:$PYTHONPATH}"

# A session of its own, so that it and its workers can be ended together.
JAX_PLATFORMS=cpu OMP_NUM_THREADS=1 setsid nice -n 10 "$PYTHON" -m recipes.open_weights.build --output "$WORK/corpus" \
    --rendered "$SONGS" --patches "$SONGS" --singers "$SONGS" --seed "$SEED" --workers "$WORKERS" \
    --cache "$WORK/cache" >"$out/build.log" 2>&1 &
builder=$!
trap 'kill -- -"$builder" 2>/dev/null || true' EXIT
# Decoded ones; an array that is still being written has a number before its ending.
songs() { find "$WORK/cache" -name 'rendered_*[a-z].npy' | sed 's/_[a-z]*\.npy$//' | sort -u | wc -l; }
end=$(awk "BEGIN {print int($began + 60 * $MINUTES)}")
left() { echo $((end - 30 - $(date +%s))); } # half a minute is kept to write the weights down
while [ "$(songs)" -lt "$FIRST" ] && [ "$(left)" -gt 0 ] && kill -0 "$builder" 2>/dev/null; do sleep 1; done
echo "$(songs) songs after $(($(date +%s) - began)) s"
[ "$(songs)" -ge "$FIRST" ] || { echo "expected $FIRST songs within $MINUTES minutes, got $(songs)" >&2; exit 1; }
# shellcheck disable=SC2086 # the options are words
"$PYTHON" -m recipes.open_weights.train --corpus "$WORK/corpus" --cache "$WORK/cache" --output "$WORK/run" \
    --follow "$HOURS" --minutes "$(awk "BEGIN {print $(left) / 60}")" $TRAIN >"$out/train.log" 2>&1 ||
    { tail -n 5 "$out/train.log" >&2; exit 1; }
cp "$WORK/run/validation.jsonl" "$out/"
JAX_PLATFORMS=cpu "$PYTHON" - "$WORK/run/last" "$WORK/small/last" "$DTYPE" <<'PYTHON'
import sys
from jaxsep.io.checkpoint import load_weights, save_weights, saved_targets
for name in saved_targets(sys.argv[1]):
    model = load_weights(sys.argv[1], name)
    save_weights(sys.argv[2], name, model.variables, model.config, dtype=sys.argv[3], metadata=model.metadata)
PYTHON
tar cf - -C "$WORK/small" last | split -b "$PIECE" - "$out/weights.tar."
echo "$(songs) songs, $(wc -l <"$out/validation.jsonl") validations, $(($(date +%s) - began)) s"
