import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { insertSettings } from '../storage/insert.ts';
import { wireColumns } from '../transcode/columns/native-block.ts';

/** Blocks that are sent to ClickHouse as one insert, with one token. */
export interface ExportedInsert {
  readonly token: string;
  readonly rows: number;
  readonly frames: readonly Buffer[];
}

/** Writes each insert to a file of its own, and a script that sends them. The directory is created if missing. @throws a system error */
export function writeNativeExport(inserts: readonly ExportedInsert[], dir: string): void {
  mkdirSync(dir, { recursive: true });
  for (const { token, frames } of inserts) writeFileSync(join(dir, fileName(token)), Buffer.concat(frames));
  writeFileSync(join(dir, 'replay.sh'), replayScript(inserts), { mode: 0o755 });
}

function fileName(token: string): string {
  return `${token}.native.zst`;
}

/** The collector's settings, but without async inserts, so that the script waits until rows are stored. */
const SETTINGS = Object.entries(
  insertSettings({ CLICKHOUSE_ASYNC_INSERT: false, CLICKHOUSE_WAIT_FOR_ASYNC_INSERT: true, CLICKHOUSE_SKIP_INDEXES_ON_INSERT: false }),
)
  .map(([name, value]) => `${name}=${String(value)}`)
  .join('&');

/** The text of replay.sh. It passes the password and the URL to curl on standard input: every user can see the arguments of a process. */
function replayScript(inserts: readonly ExportedInsert[]): string {
  const columns = wireColumns.map(({ name }) => `%60${name}%60`).join(',');
  const lines = inserts.map(({ token, rows }) => `insert ${token} ${rows}`);
  return `#!/bin/sh
# Sends the spans in this folder to ClickHouse, one insert per file. It stops at the first failure and can then be repeated:
# each insert has a deduplication token, so ClickHouse does not store it twice. That needs a deduplication window on the
# table, which covers only the latest inserts: do not wait for weeks.
#
#   CLICKHOUSE_URL=http://clickhouse:8123 CLICKHOUSE_USERNAME=default CLICKHOUSE_PASSWORD=... \\
#   CLICKHOUSE_DATABASE=default CLICKHOUSE_TABLE=otel_traces ./replay.sh
set -eu
cd "$(dirname "$0")"
: "\${CLICKHOUSE_URL:?is not set: for example http://clickhouse:8123}"

# Quotes a name with backticks and percent-encodes it for a URL, whatever bytes are in it.
quoted() {
  printf '\`%s\`' "$(printf %s "$1" | sed 's/[\\\\\`]/\\\\&/g')" | od -An -v -tx1 | tr -d '\\n' | sed 's/ /%/g'
}

TABLE="$(quoted "\${CLICKHOUSE_DATABASE:-default}").$(quoted "\${CLICKHOUSE_TABLE:-otel_traces}")"
QUERY="INSERT%20INTO%20$TABLE%20(${columns})%20FORMAT%20Native"
SETTINGS="${SETTINGS}"
# The URL may have a path and a query.
case $CLICKHOUSE_URL in
  *\\?*) SERVER="$CLICKHOUSE_URL&" ;;
  *) SERVER="$CLICKHOUSE_URL?" ;;
esac
HEADERS=$(mktemp)
trap 'rm -f "$HEADERS"' EXIT

# One line of a configuration for curl.
option() {
  printf '%s = "%s"\\n' "$1" "$(printf %s "$2" | sed 's/[\\\\"]/\\\\&/g')"
}

refused() {
  echo "ClickHouse did not confirm the insert: \${BODY:-$(cat "$HEADERS")}" >&2
  exit 1
}

insert() {
  echo "$1: $2 spans"
  BODY=$({
    option url "$SERVER$SETTINGS&insert_deduplication_token=$1&query=$QUERY"
    option header "X-ClickHouse-User: \${CLICKHOUSE_USERNAME:-default}"
    option header "X-ClickHouse-Key: \${CLICKHOUSE_PASSWORD:-}"
  } | curl --silent --show-error --fail-with-body --dump-header "$HEADERS" --config - --header 'Content-Encoding: zstd' \\
    --data-binary "@$1.native.zst") || refused
  # Stored only if ClickHouse itself confirms it: a response with a query id, without an exception, and with an empty body.
  if [ -n "$BODY" ] || ! grep -qi '^X-ClickHouse-Query-Id:' "$HEADERS" || grep -qi '^X-ClickHouse-Exception-Code:' "$HEADERS"; then
    refused
  fi
}

${lines.join('\n')}
`;
}
