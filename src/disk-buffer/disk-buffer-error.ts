/** Why a file can't be the disk buffer. The message is for the operator. */
export class DiskBufferError extends Error {
  override readonly name = 'DiskBufferError';
}
