#!/bin/sh
# One round of retraining, for a Kubernetes CronJob or `docker compose run --rm retrain`: if interactions have drifted from what the champion was
# fitted on, train on all but the newest days, judge on those days, promote. Exit code 0: promoted, or nothing to do; else the step that failed
# said why, and what serves stays.
set -eu

config=${RETRAIN_CONFIG:-/etc/rapport/rapport.toml}    # [model] registry, and [log] for the announcement
archive=${RETRAIN_ARCHIVE:-/var/lib/rapport/archive}   # [archive] url of the service: a directory, or s3://bucket/prefix
work=${RETRAIN_DIR:-/var/lib/rapport/retrain}
days=${RETRAIN_JUDGE_DAYS:-14}                         # kept out of training, to judge by: churn and spend half as far ahead
settings=${RETRAIN_SETTINGS:-}                         # train.toml, if not the default settings
labels=${RETRAIN_LABELS:-}                             # labels beside the ratings among the interactions: a file
until=$(date -u -d "$days days ago" +%Y-%m-%dT00:00:00Z)

mkdir -p "$work"
out=$work/next
rm -rf "$out"
set -- --interactions "$archive/interactions"
if [ -n "$labels" ]; then
    set -- "$@" --labels "$labels"
fi

# By itself, so that the script ends where it fails.
versions=$(rapport models list --config "$config")
champion=$(printf '%s\n' "$versions" | awk '$2 == "champion" { print $1 }')
reference=
if [ -n "$champion" ]; then
    registry=${RAPPORT_MODEL_REGISTRY:?names the registry, as [model] registry does}
    # A bundle without reference.json cannot tell a drift: train anyway.
    if [ -f "$registry/$champion/reference.json" ]; then
        reference=$registry/$champion
    fi
fi

rapport train "$@" --until "$until" ${reference:+--if-drift "$reference"} ${settings:+--config "$settings"} --out "$out"
if [ ! -f "$out/manifest.json" ]; then
    exit 0 # nothing has drifted; train said so
fi
rapport models promote "$out" "$@" --since training --config "$config"
