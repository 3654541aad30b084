#!/bin/sh
# What a newcomer sees first: three guidance values over the same prompts and seeds, and which of them is better.
set -eu
num=${1:-64}
export MLFLOW_LOGGING_LEVEL=WARNING # `mlflow run` tells of each of its steps

# The first line of what a run says at its end.
told() {
    printf 'guidance %-4s %s\n' "$1" "$(printf '%s\n' "$2" | sed -n '/ images\{0,1\} in /{p;q;}')"
}

echo "The same $num prompts and seeds, at guidance 12 (an MLflow project), 3 and 1.5:"
made=$(mlflow run . --env-manager local --experiment-name demo -P guidance=12 -P num="$num")
told 12 "$made"
for guidance in 3 1.5; do
    made=$(t2i generate --experiment demo --guidance "$guidance" --num "$num")
    told "$guidance" "$made"
done

echo
echo "Which is better, and how sure is that?"
echo
t2i compare --experiment demo --by alignment --report t2i-data/demo.html
cat <<'NEXT'

Next:
  open t2i-data/demo.html                                    the pictures
  .venv/bin/t2i ui                                           MLflow's UI on them
  .venv/bin/t2i show latest                                  one run's record
  .venv/bin/t2i db query "SELECT name, guidance FROM runs"   ask in SQL
  .venv/bin/t2i sweep --guidance 1,3,7.5,12 --steps 10,30    a grid, resumable
  .venv/bin/t2i generate --model OWNER/NAME --manifest FILE  your own model
NEXT
