#!/usr/bin/env bash
# What formats and methods cost in perplexity: a table for one model.
#
#     benches/quality.sh MODEL CALIBRATION HELDOUT WORK [CONTEXT]
#
# MODEL is a folder or a .gguf, CALIBRATION a text like those it was trained on, HELDOUT another
# that it is judged by, in windows of CONTEXT tokens [256]. Statistics, models and tables are left
# in the folder WORK; what is there is not computed again. LACUNA names the program
# [target/release/lacuna], DEVICE where it computes [auto], SPARSITIES and GROUP_SIZES the per cent of
# groups that are dropped and their columns.
set -euo pipefail

[ $# -ge 4 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
model=$1 calibration=$2 heldout=$3 work=$4 context=${5:-256}
lacuna=${LACUNA:-target/release/lacuna} device=${DEVICE:-auto}
sparsities=${SPARSITIES:-20 30 40 50 60} groups=${GROUP_SIZES:-16 32 64}

mkdir -p "$work"
stats=$work/stats.safetensors
[ -e "$stats" ] || "$lacuna" calibrate "$model" --text "$calibration" -o "$stats" \
    --context "$context" --device "$device"

# The arguments of each method; magnitude without statistics is plain pruning and rounding.
arguments() {
    case $1 in
        magnitude) ;;
        wanda | sparsegpt) echo --score "$1" --stats "$stats" ;;
        layer) echo --score sparsegpt --recover layer --stats "$stats" ;;
    esac
}

# table NAME FORMAT… -- METHOD…: the formats by the methods, beside the model as it is.
table() {
    local name=$1 formats=() models=("$model") out
    shift
    while [ "$1" != -- ]; do formats+=("$1") && shift; done
    shift
    [ ! -e "$work/$name.txt" ] || return 0
    for format in "${formats[@]}"; do
        for method in "$@"; do
            out=$work/$format,$method
            # shellcheck disable=SC2046
            [ -e "$out" ] || "$lacuna" compress "$model" -o "$out" --format "$format" \
                $(arguments "$method") > "$out.txt"
            models+=("$out")
        done
    done
    "$lacuna" eval "${models[@]}" --text "$heldout" --ctx "$context" --speed 0 \
        --device "$device" > "$work/$name.tmp"
    mv "$work/$name.tmp" "$work/$name.txt"
}

table codes w8g128 w4g64 w3g64 w2g64 -- magnitude wanda sparsegpt
table pattern 2:4 -- magnitude wanda sparsegpt layer
for group in $groups; do
    formats=()
    for sparsity in $sparsities; do formats+=("w4g${group}s$sparsity"); done
    table "groups-$group" "${formats[@]}" -- magnitude sparsegpt layer
done
cat "$work"/codes.txt "$work"/pattern.txt "$work"/groups-*.txt
