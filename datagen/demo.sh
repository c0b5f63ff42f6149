#!/bin/sh
# The main job on the built-in drawn catalogue, which needs no data: draw -> run -> show, and embed. `make demo` calls it.
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
fashionkit embed "$out/catalog" --model timm/tf_efficientnet_lite0 --weights offline --size 96 --out "$out/vectors" \
  --workers 2

cat <<END

Done. Open $out/questions.html in a browser: pictures with their questions, answers and programs.
  $out/catalog      the drawn outfits: pictures, items, attributes
  $out/questions    the samples, as Parquet tables of ids
  $out/vectors      a vector for each picture; docs/embedding.md says how to search them
Next: your own CSV and photos, in docs/tutorial.md.
END
