#!/usr/bin/env bash
# A conversation in curl, while `cargo run --release` runs in another terminal.
set -euo pipefail
server=${1:-http://127.0.0.1:8080}
session=example-$RANDOM

echo "# say something; the answer streams"
curl -sN "$server/chat/$session" -d '{"content":"Hello"}'

echo "# store a message, twice with the same key: it is there once"
for _ in 1 2; do
  curl -s "$server/v1/sessions/$session/messages" -H 'Idempotency-Key: k1' -d '{"role":"user","content":"once"}'
  echo
done

echo "# the history"
curl -s "$server/v1/sessions/$session/messages?limit=2"
echo

echo "# everything that happened, from the beginning"
curl -s "$server/v1/sessions/$session/events?after=0"
echo
