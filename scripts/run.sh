#!/usr/bin/env bash
# What `make run` does behind the setup: get the files, start Emberkeep, take the tour, stop again.
set -euo pipefail
cd "$(dirname "$0")/.."

emberkeep=.venv/bin/emberkeep
began=$SECONDS
eval "$(.venv/bin/python scripts/surroundings.py)"

"$emberkeep" setup
ours=no
if ! "$emberkeep" status >/dev/null 2>&1; then
	"$emberkeep" up --detach
	ours=yes
fi
stop() {
	if [ "$ours" = yes ]; then "$emberkeep" down; fi
}
trap stop EXIT

.venv/bin/python examples/tour.py
printf '\nAll of it took %d s. To go on:\n' "$((SECONDS - began))"
if [ "$ours" = yes ]; then printf '  %s up --detach\n' "$emberkeep"; fi
printf '  %s launch flask --name web && %s token web --curl\n' "$emberkeep" "$emberkeep"
printf "  %s run debian-12 -- python3 -c 'print(2**100)'\n" "$emberkeep"
