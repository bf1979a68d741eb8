/** The disk buffer can't be opened, read or resized. The message is for the operator. */
export class DiskBufferError extends Error {
  override readonly name = 'DiskBufferError';
}
