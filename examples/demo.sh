# The whole road with real parts: train, export, serve, stream, stop. Exits 0 if all of it worked.
set -eu
BIN=${BIN:-.venv/bin}
PROMPT='"My dear Larkspur," said Mrs. Quill, '

"$BIN/unroll" train --preset demo --name demo ${MINUTES:+--minutes "$MINUTES"}
"$BIN/unroll" export --checkpoint runs/demo --bundle bundles/demo

port_file=$(mktemp -u)
"$BIN/unroll" serve --model demo=bundles/demo --port 0 --port-file "$port_file" \
    --log-level warning &
server=$!
trap 'kill $server 2>/dev/null || true; rm -f "$port_file"' EXIT

waited=0
until [ -s "$port_file" ]; do
    kill -0 $server 2>/dev/null || { echo "demo: the server ended before it was ready" >&2; exit 1; }
    [ $waited -lt 1200 ] || { echo "demo: the server is not ready after 120 s" >&2; exit 1; }
    sleep 0.1
    waited=$((waited + 1))
done

echo
printf '%s' "$PROMPT"
"$BIN/unroll" generate --target "127.0.0.1:$(cat "$port_file")" \
    --prompt "$PROMPT" --max-new-symbols 400 --temperature 0.7 --seed 7
echo
kill -TERM $server
wait $server
echo "demo: trained, exported, proved, served, streamed and stopped"
