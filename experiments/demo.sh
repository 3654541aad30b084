#!/bin/sh
# What a newcomer sees first: three guidance values over the same prompts and seeds, and which of them is better.
set -eu
num=${1:-64}
export MLFLOW_LOGGING_LEVEL=WARNING # `mlflow run` tells of each of its steps

# The first line of what a run says at its end.
told() {
    printf 'guidance %-4s %s\n' "$1" "$(printf '%s\n' "$2" | sed -n '/ images\{0,1\} in /{p;q;}')"
}

echo "The same $num prompts and seeds at three guidance values, the first as an MLflow project:"
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
  open t2i-data/demo.html                                         the pictures, prompt by prompt
  .venv/bin/t2i ui                                                the same runs in MLflow's UI
  .venv/bin/t2i show latest                                       the whole record of the last run
  .venv/bin/t2i db query "SELECT guidance, count(*) FROM runs JOIN images ON images.run_id = runs.id GROUP BY 1"
  .venv/bin/t2i sweep --guidance 1,2,3,5,7.5,12 --steps 10,30     a grid, resumable
  .venv/bin/t2i generate --model OWNER/NAME --manifest FILE.csv   your own model and prompts
NEXT
