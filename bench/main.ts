import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { build, BUILD_SECONDS } from '../test/support/commands/build.ts';
import { commandLine, misused, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { expectedSeconds, measureEndToEnd, type Scenario, stepCount } from './end-to-end.ts';
import { otelcol, rotel } from './peers.ts';
import { endToEndTables, markdown, mostNoise, ratios, ratioTable, short, summarize } from './report.ts';
import { scenarios } from './scenarios.ts';
import { collector, type Mode, plainNest, receiveOnly, THIS_COLLECTOR } from './subjects.ts';
import { measureTranscode, TRANSCODE_SECONDS } from './transcode.ts';

const usage = `Measures what the collector costs in both modes, at low rates and at full load, and prints the Markdown tables
of docs/performance.md and docs/comparison.md. Compared subjects take turns; each run has a new process and an empty table.

npm run bench -- [options]

  --peers            also rotel (needs pip) and the OpenTelemetry Collector (needs Go), installed into node_modules/.cache
  --baselines        also a plain Nest app, and a server that only receives
  --before DIR       also the version in another checkout, which must be built (DIR/dist)
  --runs N           runs per scenario; the figures are medians (default 1)
  --seconds N        seconds of load per scenario (default 8)
  --scenario TEXT    only scenarios whose names contain TEXT; can be repeated
  --memory           this collector only in memory mode
  --disk-buffer      this collector only with the disk buffer
  --env NAME=VALUE   a setting for this collector; can be repeated. Settings of the shell are not used
  --only PART        transcode, or end-to-end (default both)
  --json             one JSON object

Progress goes to standard error. The exit code is 1 if this collector failed in a scenario.
`;
const values = commandLine(usage, {
  json: { type: 'boolean', default: false },
  seconds: { type: 'string', default: '8' },
  runs: { type: 'string', default: '1' },
  memory: { type: 'boolean', default: false },
  'disk-buffer': { type: 'boolean', default: false },
  baselines: { type: 'boolean', default: false },
  peers: { type: 'boolean', default: false },
  before: { type: 'string' },
  env: { type: 'string', multiple: true, default: [] },
  scenario: { type: 'string', multiple: true, default: [''] },
  only: { type: 'string', default: 'transcode,end-to-end' },
});
const runs = positive('--runs', values.runs);
const withTranscode = values.only.includes('transcode');
const wanted = values.only.includes('end-to-end') ? scenariosNamed(values.scenario) : [];

const both: readonly Mode[] = ['disk buffer', 'memory'];
const modes = values.memory === values['disk-buffer'] ? both : both.filter((mode) => (mode === 'memory') === values.memory);
const settings = Object.fromEntries(values.env.map((setting) => [setting.split('=', 1)[0], setting.slice(setting.indexOf('=') + 1)]));
const ours = modes.map((mode) => collector(THIS_COLLECTOR, mode, settings));
const before = values.before === undefined ? [] : modes.map((mode) => collector('the version before', mode, {}, distOf(values.before!)));
const others = [...(values.peers ? [rotel, otelcol] : []), ...(values.baselines ? [plainNest, receiveOnly] : [])];
const subjects = [...ours, ...before, ...others];

const what = [
  ...(withTranscode ? ['measures transcoding'] : []),
  ...(wanted.length > 0
    ? [`runs ${wanted.length} scenarios of ${values.seconds} s with ${subjects.length} subjects, ${values.runs} ×`]
    : []),
];
using progress = startProgress(`Builds the collector, then ${what.join(', and ')}.`, {
  steps: 1 + Number(withTranscode) + (wanted.length > 0 ? stepCount(subjects, wanted, runs) : 0),
  seconds: BUILD_SECONDS + (withTranscode ? TRANSCODE_SECONDS : 0) + (wanted.length > 0 ? expectedSeconds(subjects, wanted, runs) : 0),
});

await build(progress);
if (withTranscode) progress.step('transcoding', TRANSCODE_SECONDS);
const transcode = withTranscode ? await measureTranscode() : undefined;
const endToEnd = wanted.length > 0 ? await measureEndToEnd(subjects, wanted, runs, progress) : [];
const compared = [
  ...ratios(
    endToEnd,
    ours.map(({ name }) => name),
    others.map(({ name }) => name),
  ),
  ...before.flatMap(({ name }, index) => ratios(endToEnd, [ours[index].name], [name])),
];
process.exitCode = endToEnd.some(({ subject, missing }) => missing !== undefined && ours.some(({ name }) => name === subject)) ? 1 : 0;

progress.clear();
if (values.json) {
  const results = endToEnd.map((measured) => {
    const { scenario: name, subject, missing } = measured;
    return missing === undefined ? summarize(measured) : { name, subject, runs: 0, missing };
  });
  process.stdout.write(`${JSON.stringify({ node: process.version, ...transcode, endToEnd: results, ratios: compared })}\n`);
} else {
  if (transcode !== undefined) {
    const { protobufUsPerSpan, protobufjsUsPerSpan, protobufVsProtobufjs, jsonUsPerSpan, jsonParseUsPerSpan, jsonVsJsonParse } = transcode;
    const rows = [
      ['Protobuf, 517 spans; protobufjs decodes', short(protobufUsPerSpan), short(protobufjsUsPerSpan), short(protobufVsProtobufjs)],
      ['Hive Gateway JSON, 512 spans; JSON.parse', short(jsonUsPerSpan), short(jsonParseUsPerSpan), short(jsonVsJsonParse)],
    ];
    const title = 'transcoding to a compressed block, and a library that only parses';
    console.log(`${markdown([title, 'µs a span', 'library', 'ratio'], rows)}\n`);
  }
  if (endToEnd.length > 0) {
    const how = runs === 1 ? 'one run' : `medians of ${runs} runs (least–most)`;
    const command = ['npm run bench', ...(process.argv.length > 2 ? ['--', ...process.argv.slice(2).map(quoted)] : [])].join(' ');
    console.log(`\`${command}\`:`);
    console.log(`Node ${process.version.slice(1)}, ${availableParallelism()} cores for collector, ClickHouse and load together; in turns,`);
    console.log(`${how} of ${values.seconds} s; others took at most ${short(mostNoise(endToEnd))} cores.\n`);
    console.log(endToEndTables(endToEnd));
  }
  const ratiosOfCpu = ratioTable(compared);
  if (ratiosOfCpu !== '') console.log(`\n${ratiosOfCpu}`);
}

function distOf(folder: string): string {
  const dist = resolve(folder, 'dist');
  if (existsSync(join(dist, 'main.js'))) return dist;
  return misused(`--before ${folder}: there is no ${join(dist, 'main.js')}. Build it there first: npm ci && npm run build.`);
}

function scenariosNamed(texts: readonly string[]): readonly Scenario[] {
  const all = scenarios(positive('--seconds', values.seconds));
  const found = all.filter(({ name }) => texts.some((text) => name.includes(text)));
  const names = all.map(({ name }) => `  ${name}\n`).join('');
  return found.length > 0 ? found : misused(`No scenario's name contains ${texts.join(' or ')}. There are:\n${names}`);
}

function quoted(argument: string): string {
  return /^[\w./=,-]+$/.test(argument) ? argument : `'${argument}'`;
}
