import { readFileSync } from 'node:fs';

/** Exits with code 1 and a message if this Node is older than `engines` in package.json. Imports nothing that older versions lack. */
export function requireNode(present = process.versions.node): void {
  const { engines } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { engines: { node: string } };
  const required = engines.node.replace('>=', '');
  if (!isOlder(present, required)) return;
  console.error(
    `This is Node ${present}, and the collector needs ${required} or later. ` +
      `Start it with npm start after npm ci, which brings one, or install Node ${required}.`,
  );
  process.exit(1);
}

function isOlder(present: string, required: string): boolean {
  const [presentMajor, presentMinor] = present.split('.').map(Number);
  const [major, minor = 0] = required.split('.').map(Number);
  return presentMajor < major || (presentMajor === major && presentMinor < minor);
}
