import { collectorDecimal, plainDecimal } from '../bytes/number-text.ts';

/** How values other than text are written as text. There are two dialects, those of the tables of two other collectors. */
export interface Dialect {
  readonly spanKinds: EnumNames;
  readonly statusCodes: EnumNames;
  readonly double: (value: number) => string;
  readonly bytes: 'hex' | 'base64';
  /** Whether an attribute without a value is stored as '' (in JSON documents: null), or left out. */
  readonly keepEmptyValues: boolean;
  /** JSON documents as Go's encoding/json writes them: members sorted by key, line separators escaped. */
  readonly goJson: boolean;
  /** Whether ResourceAttributes always gets hive.target_id, or only where the client sent one. */
  readonly targetInEveryResource: boolean;
}

/** How an enum's values are stored: by number. `unknown` is the entry for numbers without a name. */
export interface EnumNames {
  readonly values: readonly string[];
  readonly unknown: number;
}

/** The rows of Hive's Rust collector. */
const hive: Dialect = {
  spanKinds: {
    values: [
      'SPAN_KIND_UNSPECIFIED',
      'SPAN_KIND_INTERNAL',
      'SPAN_KIND_SERVER',
      'SPAN_KIND_CLIENT',
      'SPAN_KIND_PRODUCER',
      'SPAN_KIND_CONSUMER',
    ],
    unknown: 0,
  },
  statusCodes: { values: ['STATUS_CODE_UNSET', 'STATUS_CODE_OK', 'STATUS_CODE_ERROR'], unknown: 0 },
  double: plainDecimal,
  bytes: 'hex',
  keepEmptyValues: false,
  goJson: false,
  targetInEveryResource: true,
};

/** The rows of the OpenTelemetry Collector's clickhouseexporter, as of 0.161. */
const otelcol: Dialect = {
  spanKinds: { values: ['Unspecified', 'Internal', 'Server', 'Client', 'Producer', 'Consumer', ''], unknown: 6 },
  statusCodes: { values: ['Unset', 'Ok', 'Error', ''], unknown: 3 },
  double: collectorDecimal,
  bytes: 'base64',
  keepEmptyValues: true,
  goJson: true,
  targetInEveryResource: false,
};

export const dialects = { hive, otelcol } as const;
export type DialectName = keyof typeof dialects;
