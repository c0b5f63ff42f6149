#!/bin/sh
# The main job on the built-in drawn catalogue, which needs no data: draw -> run -> show, train -> share -> embed, and
# train on the questions -> ask.
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

fashionkit features "$out/catalog" --model "$out/model" --maps --out "$out/features"
fashionkit train fit --config vqa_small --data.catalog "$out/catalog" --data.questions "$out/questions" \
  --data.features "$out/features" --model.weights "$out/run" --data.images 16 --out "$out/answering-run" \
  --trainer.max_epochs 12
fashionkit share "$out/answering-run" --out "$out/answering" --about "Questions about 400 drawn outfits: a demonstration."
fashionkit ask 0000007 --catalog "$out/catalog" --model "$out/answering" \
  "Is there a bag in this outfit?" "How long are the sleeves of the top?" "where is the hat worn"

cat <<END

Done. Open $out/questions.html in a browser: pictures with their questions, answers and programs.
  $out/catalog      the drawn outfits: pictures, items, attributes
  $out/questions    the samples, as Parquet tables of ids
  $out/model        a small network that names attributes, as a folder to share; docs/embedding.md says how to ask it
  $out/vectors      its vector for each picture
  $out/answering    a small network that answers questions about pictures, after a short training: it guesses much
                    yet; docs/answering.md says how to train a good one
Next: your own CSV and photos, in docs/tutorial.md.
END
