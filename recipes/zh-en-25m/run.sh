#!/bin/sh
# Text and instructions to a model that answers: recipes/zh-en-25m/run.sh DATA OUT
set -eu
data=$1 out=$2 recipe=$(dirname "$0")
mkdir -p "$out"

[ -d "$out/tokenizer" ] ||
  tongwen tokenizer train "$data/text" --out "$out/tokenizer" --config "$recipe/tokenizer.toml"
tongwen data prepare "$data/text" --tokenizer "$out/tokenizer" \
  --out "$out/text" --config "$recipe/text.toml"
tongwen data prepare "$data/instructions" --tokenizer "$out/tokenizer" \
  --out "$out/instructions" --config "$recipe/instructions.toml"
tongwen pretrain --data "$out/text" --out "$out/pretrain" --config "$recipe/pretrain.toml"
tongwen finetune --model "$out/pretrain" --data "$out/instructions" --out "$out/finetune" \
  --config "$recipe/finetune.toml"
tongwen chat --model "$out/finetune" --prompt "给出三个保持健康的建议。" --temperature 0
tongwen chat --model "$out/finetune" --prompt "Give three tips for staying healthy." --temperature 0
