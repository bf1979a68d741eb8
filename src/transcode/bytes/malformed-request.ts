/** The bytes are not an ExportTraceServiceRequest. Nothing of the request is stored. */
export class MalformedRequest extends Error {
  constructor(detail: string) {
    super(detail);
    this.name = 'MalformedRequest';
  }
}

/** Levels of arrays, objects, messages and groups in each other; what parsers commonly allow. */
export const MAX_DEPTH = 64;
