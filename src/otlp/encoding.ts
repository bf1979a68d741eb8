/** The encodings of a request over HTTP (OTLP 1.11.0, "OTLP/HTTP Request"). Over gRPC all are Protobuf. */
export type Encoding = 'protobuf' | 'json';
