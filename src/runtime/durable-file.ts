import { existsSync, mkdirSync, statSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes a file atomically. Resolves when its data and its name are on the disk. @throws Error when the disk fails */
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

/** Writes the entries of a directory to the disk: files created, renamed or removed. @throws Error when the disk fails */
export async function syncDirectory(dir: string): Promise<void> {
  const directory = await open(dir);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Creates a directory, and its missing parents. Node's `recursive` option never returns on a file system that reports an existing
 * parent as missing, as /proc does: here that is an error.
 * @returns whether the directory was missing
 * @throws the system's error when it can't be created
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
