#!/bin/sh
# The main job on the built-in drawn catalogue, which needs no data: draw -> run -> show, and train -> share -> embed.
# `make demo` calls it.
set -eu
cd "$(dirname "$0")/.."
out=out/demo
rm -rf "$out" # of an earlier demo, perhaps of an earlier version

fashionkit() {
  printf '\n$ fashionkit %s\n' "$*"
  .venv/bin/fashionkit "$@"
}

fashionkit catalog draw "$out/catalog" --images 400 --seed 1
fashionkit datagen run drawn --catalog "$out/catalog" --out "$out/questions" --samples 30000
fashionkit datagen show "$out/questions" --catalog "$out/catalog" --n 64 --html "$out/questions.html" >"$out/shown.txt"
head -n 12 "$out/shown.txt"
fashionkit train fit --config attributes_small --data.catalog "$out/catalog" --data.least 10 --out "$out/run" \
  --trainer.max_epochs 3
fashionkit train test --out "$out/run"
fashionkit share "$out/run" --out "$out/model" --about "Attributes of 400 drawn outfits, three passes: a demonstration."
fashionkit embed "$out/catalog" --model "$out/model" --out "$out/vectors"

cat <<END

Done. Open $out/questions.html in a browser: pictures with their questions, answers and programs.
  $out/catalog      the drawn outfits: pictures, items, attributes
  $out/questions    the samples, as Parquet tables of ids
  $out/model        a small network that names attributes, as a folder to share; docs/embedding.md says how to ask it
  $out/vectors      its vector for each picture
Next: your own CSV and photos, in docs/tutorial.md.
END
