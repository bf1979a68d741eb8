import { readFileSync } from 'node:fs';

/** Exits with code 1 and a message if this Node is older than `engines` in package.json. Imports nothing that older versions lack. */
export function requireNode(present = process.versions.node): void {
  const { engines } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { engines: { node: string } };
  const required = engines.node.replace('>=', '');
  if (!isOlder(present, required)) return;
  console.error(
    `The collector needs Node ${required} or later, and this is Node ${present}. ` +
      `Run npm ci, which installs one, and then npm start; or install Node ${required}.`,
  );
  process.exit(1);
}

function isOlder(present: string, required: string): boolean {
  const [presentMajor, presentMinor] = present.split('.').map(Number);
  const [major, minor = 0] = required.split('.').map(Number);
  return presentMajor < major || (presentMajor === major && presentMinor < minor);
}
