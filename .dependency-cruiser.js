/**
 * The folders of src/, from the top to the ground: each may import from those below it, and from no other. A file in src/ itself is
 * the top. docs/architecture.md shows the same order as a picture; `npm run lint` fails on an import that runs upwards, and on a circle.
 */
export const FOLDERS = [
  'status', 'metrics', 'health', 'debug', 'cli', 'server', 'threads', 'grpc', 'ingest', 'blocks', 'bodies', 'batch', 'disk-buffer',
  'dead-letters', 'queue', 'auth', 'storage', 'tracing', 'telemetry', 'schema', 'transcode', 'http', 'config', 'otlp', 'runtime',
  'embedded',
];

const known = FOLDERS.join('|');

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    { name: 'circle', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'unknown-folder',
      comment: 'A new folder needs an entry in FOLDERS.',
      severity: 'error',
      from: { path: '^src/[^/]+/', pathNot: `^src/(${known})/` },
      to: {},
    },
    ...FOLDERS.map((folder, index) => ({
      name: `upward-from-${folder}`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: [`^src/[^/]+$`, ...(index > 0 ? [`^src/(${FOLDERS.slice(0, index).join('|')})/`] : [])] },
    })),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    includeOnly: '^src/',
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts'] },
  },
};
