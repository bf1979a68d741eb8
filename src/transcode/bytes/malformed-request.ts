/** The bytes are not an ExportTraceServiceRequest. Nothing of the request is stored. */
export class MalformedRequest extends Error {
  constructor(detail: string) {
    super(detail);
    this.name = 'MalformedRequest';
  }
}

/** Maximum nesting depth of arrays, objects, messages and groups: a common limit of parsers. */
export const MAX_DEPTH = 64;
