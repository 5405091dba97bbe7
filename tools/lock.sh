#!/usr/bin/env bash
# Write constraints.txt: exact versions for every supported Python and system, without index addresses.
# Needs uv (`pip install uv`). Run from the repository root after changing a dependency.
set -euo pipefail
printf -- '-e ./proto\n-e ./analysis[report]\n-e ./agent[gpu]\n-e ./aggregator\n' > .lock.in
# DuckDB 2.0's own guide advises to wait for its patch releases; 1.5 is supported to March 2027.
# One version of grpc everywhere: the generator's.
printf 'duckdb==1.5.5\ngrpcio==1.76.0\ngrpcio-health-checking==1.76.0\ngrpcio-status==1.76.0\n' > .lock.constraints
trap 'rm -f .lock.in .lock.constraints' EXIT
uv pip compile --quiet --universal --no-header --no-emit-index-url --no-annotate --python-version 3.11 \
  --group pyproject.toml:dev --constraints .lock.constraints .lock.in | grep -v '^-e ' > constraints.txt
