#!/bin/sh
# What a newcomer sees first: three guidance values over the same prompts and seeds, and which of them is better.
set -eu
num=${1:-64}

echo "== guidance 12, as an MLflow project =="
mlflow run . --env-manager local --experiment-name demo -P guidance=12 -P num="$num"
echo
echo "== guidance 3 and 1.5, the same prompts and seeds =="
t2i generate --experiment demo --guidance 3 --num "$num"
t2i generate --experiment demo --guidance 1.5 --num "$num"
echo
echo "== which is better, and how sure is that? =="
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
