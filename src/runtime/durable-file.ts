import { existsSync, mkdirSync, statSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes a file whole or not at all. When it resolves, file and name are on the disk. @throws when the disk fails */
export async function writeDurably(path: string, data: string | Uint8Array): Promise<void> {
  const unfinished = `${path}.unfinished`;
  const file = await open(unfinished, 'w');
  try {
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(unfinished, path);
  await syncDirectory(dirname(path));
}

/** Brings what was created, renamed or removed in a directory to the disk. */
export async function syncDirectory(dir: string): Promise<void> {
  const directory = await open(dir);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Makes a directory, and those above it that are missing. Node's own `recursive` never returns where a file system says that the directory
 * above is missing though it exists, as /proc does: here that is an error.
 * @returns whether it was missing
 * @throws the system's error when it can't be made
 */
export function makeDirectory(path: string): boolean {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return false;
  try {
    mkdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || existsSync(dirname(path))) throw error;
    makeDirectory(dirname(path));
    mkdirSync(path);
  }
  return true;
}
