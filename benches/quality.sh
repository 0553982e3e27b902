#!/usr/bin/env bash
# What formats and methods cost in perplexity: a table for one model, in Markdown.
#
#     benches/quality.sh MODEL CALIBRATION HELDOUT WORK [CONTEXT]
#
# MODEL is a folder or a .gguf, CALIBRATION a text like those it was trained on, HELDOUT another
# that it is judged by, in windows of CONTEXT tokens [256]. Statistics and figures are left in the
# folder WORK; what is there is not computed again. From the environment come LACUNA, the
# program [target/release/lacuna], DEVICE, where it computes [auto], and what is compared:
# CODES, PATTERNS and GROUPED are formats, METHODS those for the latter two: `block` and `model`,
# which go on from `layer`, need a program built with `--features recover`, and may be told how
# long to train by RECOVER.
set -euo pipefail

[ $# -ge 4 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
model=$1 calibration=$2 heldout=$3 work=$4 context=${5:-256}
lacuna=${LACUNA:-target/release/lacuna} device=${DEVICE:-auto}
codes=${CODES-w8g128 w4g64 w3g64 w2g64} patterns=${PATTERNS-2:4}
groups=${GROUPED-$(echo w4g{16,32,64}s{20,30,40,50,60})}
methods=${METHODS-magnitude wanda sparsegpt layer}

mkdir -p "$work"
stats=$work/stats.safetensors
[ -e "$stats" ] || "$lacuna" calibrate "$model" --text "$calibration" -o "$stats" \
    --context "$context" --device "$device" >&2

# The arguments of each method; magnitude without statistics is plain pruning and rounding.
arguments() {
    case $1 in
        magnitude) ;;
        wanda | sparsegpt) echo --score "$1" --stats "$stats" ;;
        layer) echo --score sparsegpt --recover layer --stats "$stats" ;;
    esac
}

# judge NAME MODEL: the report of `eval` in WORK/NAME.json.
judge() {
    [ -e "$work/$1.json" ] || "$lacuna" eval "$2" --text "$heldout" --ctx "$context" \
        --device "$device" --json > "$work/$1.tmp"
    [ -e "$work/$1.json" ] || mv "$work/$1.tmp" "$work/$1.json"
}

# figure NAME KEY DIGITS: a number of that report.
figure() {
    awk -F '[:,]' -v key="\"$2\"" -v digits="$3" \
        'index($1, key) { printf "%.*f", digits, $2 }' "$work/$1.json"
}

# pack FORMAT METHOD: the compressed model as WORK/FORMAT,METHOD.
pack() {
    local to=$work/$1,$2 from=
    [ ! -e "$to" ] || return 0
    case $2 in
        block) from=layer ;;
        model) from=block ;;
    esac
    # shellcheck disable=SC2046
    if [ -z "$from" ]; then
        "$lacuna" compress "$model" -o "$to" --format "$1" $(arguments "$2") > "$to.txt"
    else
        pack "$1" $from
        "$lacuna" recover "$model" "$work/$1,$from" -o "$to" --stage "$2" --text "$calibration" \
            --context "$context" ${RECOVER-} > "$to.txt"
    fi
}

# row FORMAT METHOD…: perplexities of the format by each method.
row() {
    local format=$1 method name cells='' bits=''
    shift
    for method in "$@"; do
        name=$format,$method
        if [ ! -e "$work/$name.json" ]; then
            pack "$format" "$method"
            judge "$name" "$work/$name"
        fi
        bits=$(figure "$name" bits_per_weight 3)
        cells+=" $(figure "$name" perplexity 4) |"
    done
    for method in "$@"; do rm -rf "${work:?}/$format,$method"; done
    echo "| $format | $bits |$cells"
}

# table METHODS FORMAT…
table() {
    local methods=$1 format
    shift
    [ $# -gt 0 ] || return 0
    echo "| format | bits/weight | ${methods// / | } |"
    # shellcheck disable=SC2086
    echo "|---|---|$(printf -- '---|%.0s' $methods)"
    # shellcheck disable=SC2086
    for format in "$@"; do row "$format" $methods; done
    echo
}

judge dense "$model"
echo "As it is: perplexity $(figure dense perplexity 4), of $(figure dense scored_tokens 0) tokens in"
echo "windows of $context."
echo
# shellcheck disable=SC2086
table "magnitude wanda sparsegpt" $codes
# shellcheck disable=SC2086
table "$methods" $patterns
# shellcheck disable=SC2086
table "$methods" $groups
