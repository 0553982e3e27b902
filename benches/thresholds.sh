#!/usr/bin/env bash
# What dropping activations costs in perplexity: a table for one model, in Markdown.
#
#     benches/thresholds.sh MODEL CALIBRATION HELDOUT WORK [CONTEXT]
#
# MODEL is a folder or a .gguf, CALIBRATION a text like those it was trained on, HELDOUT another
# that it is judged by, in windows of CONTEXT tokens [256]. Statistics and figures are left in the
# folder WORK; what is there is not computed again. From the environment come LACUNA, the
# program [target/release/lacuna], DEVICE, where it computes [auto], TOKENS of the calibration
# [65536], GREEDY, of them those that layers are tried on [2048], and what is compared: SHARES that
# are dropped, METHODS, which may end in +attention or +greedy.
set -euo pipefail

[ $# -ge 4 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
model=$1 calibration=$2 heldout=$3 work=$4 context=${5:-256}
lacuna=${LACUNA:-target/release/lacuna} device=${DEVICE:-auto}
shares=${SHARES-0.3 0.5 0.7}
methods=${METHODS-cats chess chess2 chess-down chess+attention teal teal+greedy}

mkdir -p "$work"
stats=$work/stats.safetensors
[ -e "$stats" ] || "$lacuna" calibrate "$model" --text "$calibration" -o "$stats" --no-hessian \
    --context "$context" --tokens "${TOKENS:-65536}" --device "$device" >&2

# choose METHOD SHARE FILE
choose() {
    local options=()
    case $1 in
        *+attention) options=(--attention) ;;
        *+greedy) options=(--allocate greedy --model "$model" --text "$calibration"
                           --ctx "$context" --tokens "${GREEDY:-2048}" --device "$device") ;;
    esac
    "$lacuna" thresholds "$stats" --method "${1%+*}" --sparsity "$2" "${options[@]}" -o "$3" >&2
}

# judge NAME OPTION…: the report of `eval` in WORK/NAME.json.
judge() {
    local name=$1
    shift
    [ -e "$work/$name.json" ] || "$lacuna" eval "$model" --text "$heldout" --ctx "$context" \
        --device "$device" --json "$@" > "$work/$name.tmp"
    [ -e "$work/$name.json" ] || mv "$work/$name.tmp" "$work/$name.json"
}

# figure NAME KEY FACTOR DIGITS: the mean of the numbers of that key in that report.
figure() {
    awk -F '[:,]' -v key="\"$2\"" -v factor="$3" -v digits="$4" \
        'index($1, key) { sum += $2; n++ } END { printf "%.*f", digits, factor * sum / n }' \
        "$work/$1.json"
}

judge dense
echo "As it is: perplexity $(figure dense perplexity 1 4), of $(figure dense scored_tokens 1 0)"
echo "tokens in windows of $context. Behind each share that gates were to drop: perplexity, the share"
echo "that they did drop here, and the share of the blocks' weights that is still needed."
echo
header='| method |' rule='|---|'
for share in $shares; do
    header+=" $share | dropped % | weights % |" rule+='---|---|---|'
done
echo "$header"
echo "$rule"
for method in $methods; do
    cells=''
    for share in $shares; do
        name=$method,$share
        if [ ! -e "$work/$name.json" ]; then
            [ -e "$work/$name.safetensors" ] || choose "$method" "$share" "$work/$name.safetensors"
            judge "$name" --thresholds "$work/$name.safetensors"
        fi
        cells+=" $(figure "$name" perplexity 1 4) | $(figure "$name" sparsity 100 1) |"
        cells+=" $(figure "$name" weights_needed 100 1) |"
    done
    echo "| $method |$cells"
done
